"""The REST API: the Open Inference Protocol v2 and the status of the service."""
