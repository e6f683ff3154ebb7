"""Manifests, blobs and listings."""
