"""What a rate of predictions needs, and what the Kubernetes overlays carry."""
