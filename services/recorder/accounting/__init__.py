"""Whether all answers are recorded, per gateway."""
