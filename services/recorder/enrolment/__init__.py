"""Enrolment: the public keys of the gateways whose messages are recorded."""
