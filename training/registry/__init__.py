"""Versions, and which of them serves: MLflow behind few verbs, and a ledger of every promotion."""
