"""Kills at every failpoint, many times, with a count of what was lost or doubled."""
