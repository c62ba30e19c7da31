"""The recorder: owns the database, records the answers of gateways and serves them."""
