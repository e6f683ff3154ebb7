"""Helpers that know nothing of registries: single flight, log lines, threads, permissions."""
