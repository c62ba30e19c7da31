"""The cases a model learns from and is reported on: read, described, checked, split."""
