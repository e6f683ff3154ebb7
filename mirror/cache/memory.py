"""The small things that are asked for most, in memory: proven bytes, within a bound."""

from __future__ import annotations

from cachetools import LRUCache

from mirror.oci.digest import Digest

_OVERHEAD = 256  # bytes that an entry takes beside its body


class Memory:
    """Bodies by digest, least recently used dropped. `limit` and `largest` are in bytes."""

    def __init__(self, limit: int, largest: int = 64 * 1024) -> None:
        self.largest = min(largest, limit // 4)
        self._bodies: LRUCache[Digest, bytes] = LRUCache(
            limit, getsizeof=lambda body: len(body) + _OVERHEAD
        )

    def __repr__(self) -> str:
        return f"<Memory: {len(self._bodies)} bodies, {self._bodies.currsize} bytes>"

    def get(self, digest: Digest) -> bytes | None:
        """Return a body."""
        return self._bodies.get(digest)

    def put(self, digest: Digest, body: bytes) -> None:
        """Take in a body, unless it is too large to be worth it."""
        if len(body) <= self.largest:
            self._bodies[digest] = body

    def drop(self, digest: Digest) -> None:
        """Forget a body."""
        self._bodies.pop(digest, None)
