"""Analysis of a run: from its records to its verdict and report."""
