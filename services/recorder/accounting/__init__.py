"""Accounting: the check that every answer is recorded, per gateway."""
