"""Breaks the running system on purpose, and counts whether anything that was answered is missing."""
