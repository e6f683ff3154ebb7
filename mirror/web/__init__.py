"""The HTTP side: the registry API, health, metrics and the access log."""
