"""Shared code of the benchmarks: inputs, the load generator, the server profile, reports and plots."""
