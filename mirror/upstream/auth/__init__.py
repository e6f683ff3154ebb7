"""Logging in to upstreams: accounts, credentials, tokens, and which servers may see them."""
