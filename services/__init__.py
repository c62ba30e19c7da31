"""The services; each runs alone by `python -m services.NAME`, and `local` runs all of them in one process."""
