"""The outbox: events on disk, and the relay that sends them to the broker or the recorder."""
