"""The outbox: answers on disk, and the relay that hands them to the broker or the recorder."""
