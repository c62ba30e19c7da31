"""What was recorded lately, held against what the model learned from."""
