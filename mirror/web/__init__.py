"""What clients see: the registry API, health, metrics and the access log."""
