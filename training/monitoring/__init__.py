"""Drift of recent predictions from the training data."""
