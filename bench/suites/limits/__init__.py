"""Limits on this machine (the framework, the disk), and the CPU time of each stage of a request."""
