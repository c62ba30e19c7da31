"""Faults of the rig, and their schedule."""
