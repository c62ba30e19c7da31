"""The gateway: the doctor's HTTP API. It validates, requests a score, stores the answer, and only then sends it."""
