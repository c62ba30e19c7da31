"""Baselines of the benchmarks: FastAPI without work, and the simplest design."""
