"""The cases: reading, description, checks and split."""
