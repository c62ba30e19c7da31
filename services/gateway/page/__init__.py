"""The doctor's web page: static files and their routes."""
