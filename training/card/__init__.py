"""The model card: one HTML page per version."""
