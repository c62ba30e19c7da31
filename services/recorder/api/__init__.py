"""The read API: routes and queries."""
