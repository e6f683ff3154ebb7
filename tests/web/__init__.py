"""Clients' connections, requests and replies."""
