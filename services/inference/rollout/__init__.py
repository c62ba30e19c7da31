"""Follow the version in production: fetch, verify, swap."""
