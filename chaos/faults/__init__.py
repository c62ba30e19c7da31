"""Faults: what is done to the system, and when."""
