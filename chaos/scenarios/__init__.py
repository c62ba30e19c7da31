"""Scenarios of the rig: server and local profile, outages, overload, rolling restarts, soak."""
