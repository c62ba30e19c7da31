"""Contracts between processes: events, the scoring protocol, the transport, the status of an outbox."""
