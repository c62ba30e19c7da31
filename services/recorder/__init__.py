"""The recorder: owns the database, records what gateways answered, and reads it back."""
