"""The inference service: one verified model in memory, called in batches, over HTTP or in process."""
