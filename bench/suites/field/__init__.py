"""Our system beside what people would pick instead, serving the same model. `python -m bench.suites.field`."""
