"""Metrics of a model, and the gates that it must pass before it serves."""
