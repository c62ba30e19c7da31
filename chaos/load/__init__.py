"""Load: clients and arrivals, each a separate process."""
