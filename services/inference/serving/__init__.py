"""One model in memory: loading, scoring, batching."""
