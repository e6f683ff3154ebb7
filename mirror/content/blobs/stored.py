"""Stored blobs: their files, opened once they are verified."""

from __future__ import annotations

import os
from typing import IO

from mirror.content.blobs.bodies import StoredBody
from mirror.content.memory_cache import MemoryCache
from mirror.oci.digest import Digest
from mirror.storage.catalog import Entry
from mirror.storage.errors import says_nothing
from mirror.storage.files import Opened
from mirror.storage.store import Store


class StoredBlobs:
    """Opens stored blobs. A missing, altered or unreadable file is discarded."""

    def __init__(self, store: Store, memory: MemoryCache) -> None:
        self._store = store
        self._memory = memory

    def __repr__(self) -> str:
        return f"<StoredBlobs of {self._store!r}>"

    async def open(self, digest: Digest) -> StoredBody | None:
        """Open a stored file; None where there is no good one.

        Where that cannot be told, for want of descriptors say, upstream has the blob, too.
        """
        while (entry := self._store.catalog.get(digest)) is not None:
            file: IO[bytes] | None = None
            try:
                found = await self._store.open(digest)
                file = found.file
                right = await self._is_right(digest, entry, found)
            except OSError as error:
                right = False
                if says_nothing(error):
                    self._let_go(file)
                    return None
            except BaseException:
                self._let_go(file)
                raise
            if self._store.catalog.get(digest) is not entry:
                self._let_go(file)
                continue  # evicted, discarded by another, or fetched anew meanwhile
            if file is not None and right:
                self._store.accounting.touch(digest)
                return StoredBody(self._store, entry, file)
            self._let_go(file)
            await self._store.discard(digest)
        return None

    async def _is_right(self, digest: Digest, entry: Entry, found: Opened) -> bool:
        """Whether a file is intact; a small one is put in memory, to be opened once."""
        if entry.size > self._memory.largest:
            return await self._store.intact(digest, entry, found)
        # One byte more than expected, so that a longer file shows.
        body = await self._store.run_read(os.pread, found.file.fileno(), entry.size + 1, 0)
        if not digest.proves(body):
            return False
        self._memory.put(digest, body)
        return True

    def _let_go(self, file: IO[bytes] | None) -> None:
        """Close a file that is not served."""
        if file is not None:
            self._store.close_file(file)
