"""Trained models on disk: signed bundles, the store that keeps them, and the baseline of the training data."""
