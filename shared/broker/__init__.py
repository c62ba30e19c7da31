"""The broker: its settings, and the names and arguments of exchanges and queues."""
