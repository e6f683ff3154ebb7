"""Stored blobs: opened once they are verified; small ones are put in memory."""

from __future__ import annotations

from mirror.content.blobs.bodies import StoredBody
from mirror.content.memory_cache import MemoryCache
from mirror.oci.digest import Digest
from mirror.storage.errors import Unavailable
from mirror.storage.store import Store


class StoredBlobs:
    """Opens stored blobs. A missing, altered or unreadable one is discarded."""

    def __init__(self, store: Store, memory: MemoryCache) -> None:
        self._store = store
        self._memory = memory

    def __repr__(self) -> str:
        return f"<StoredBlobs of {self._store!r}>"

    async def open(self, digest: Digest) -> StoredBody | None:
        """Open a stored blob; None where there is no good one.

        Where that cannot be told, for want of descriptors say, upstream has the blob, too. A small
        one is put in memory, to be opened once.
        """
        try:
            blob = await self._store.open(digest, small=self._memory.largest)
        except Unavailable:
            return None
        if blob is None:
            return None
        if blob.body is not None:
            self._memory.put(digest, blob.body)
        return StoredBody(blob)
