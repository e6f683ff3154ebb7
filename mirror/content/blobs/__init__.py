"""Blobs: one fetch for any number of followers, and stored blobs."""
