"""Blob stores: bytes by digest, and partials that become blobs."""
