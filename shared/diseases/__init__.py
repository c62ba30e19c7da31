"""One module per disease: its patient class, its diagnoses and the cleaning of its data."""
