"""How good a model is, and whether that is good enough to serve."""
