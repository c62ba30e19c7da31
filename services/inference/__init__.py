"""The inference service: one verified model in memory, asked in batches, over HTTP or in process."""
