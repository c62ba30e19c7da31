"""Copy one database into another, and verify the copy."""
