"""The memory cache: small bodies that are requested most. Proven bytes only, within a bound."""

from __future__ import annotations

from cachetools import LRUCache

from mirror.oci.digest import Digest

_OVERHEAD = 256  # bytes of an entry in addition to its body


class MemoryCache:
    """Bodies by digest; the least recently used are evicted. `limit` and `largest` are in bytes."""

    def __init__(self, memory_cache: int, largest: int = 64 * 1024) -> None:
        self.largest = min(largest, memory_cache // 4)
        self._bodies: LRUCache[Digest, bytes] = LRUCache(
            memory_cache, getsizeof=lambda body: len(body) + _OVERHEAD
        )

    def __repr__(self) -> str:
        return f"<MemoryCache: {len(self._bodies)} bodies, {self._bodies.currsize} bytes>"

    def get(self, digest: Digest) -> bytes | None:
        """Return a body."""
        return self._bodies.get(digest)

    def put(self, digest: Digest, body: bytes) -> None:
        """Add a body, unless it is larger than `largest`."""
        if len(body) <= self.largest:
            self._bodies[digest] = body

    def drop(self, digest: Digest) -> None:
        """Remove a body."""
        self._bodies.pop(digest, None)
