"""Resources for a rate of predictions, and the rates that the Kubernetes overlays carry."""
