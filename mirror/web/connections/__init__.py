"""Connections of clients: their limits, TLS, proxies before the mirror, HTTP on the wire."""
