"""Training: from raw data to a registered, signed model in production, and tracing answers back to it."""
