"""Manifests and tags: fresh, revalidated, or pulled once for all clients."""
