"""Load: clients and arrivals, each a process of its own."""
