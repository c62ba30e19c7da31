"""What crosses a process boundary: events, the scoring protocol, the transport, the gateway's outbox status."""
