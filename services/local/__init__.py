"""The local profile: gateway, inference and recorder in one process. It holds wiring only."""
