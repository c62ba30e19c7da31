"""The analysts' typed views, data dictionary and grants."""
