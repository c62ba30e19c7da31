"""The local profile: gateway, inference and recorder wired into one process. Nothing but wiring lives here."""
