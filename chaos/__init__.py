"""The fault rig: breaks the running system on purpose, and counts answers that are missing, doubled or altered."""
