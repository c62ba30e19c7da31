"""The gateway: the doctor's HTTP API. It validates, asks for a score, keeps the answer, and only then gives it."""
