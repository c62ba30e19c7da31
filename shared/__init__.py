"""Contracts between the parts of Predecir: patient, model, events, bundle, hosting. It imports nothing of ours."""
