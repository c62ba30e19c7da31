"""From recordings of a run to its verdict and report."""
