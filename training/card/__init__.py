"""The model card: one page per version."""
