"""Comparison of this system with other model servers, on the same model. `python -m bench.suites.field`."""
