"""The model registry, the promotion log, and moving the aliases staging and production."""
