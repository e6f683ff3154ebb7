"""Reads of stored content: proven before they are used; wrong content is discarded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mirror.oci.digest import Digest
from mirror.storage.accounting import Accounting
from mirror.storage.blobs.protocol import BlobReader, BlobStore
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.entry import Entry
from mirror.storage.errors import StorageError, Unavailable
from mirror.storage.stored_blob import StoredBlob


class VerifiedReads:
    """Opens and reads stored content. Content that is missing or altered is given to `discard`."""

    def __init__(
        self,
        blobs: BlobStore,
        threads: DiskThreads,
        accounting: Accounting,
        discard: Callable[[Digest], Awaitable[None]],
    ) -> None:
        self._blobs = blobs
        self._threads = threads
        self._accounting = accounting
        self._catalog = accounting.catalog
        self._discard = discard

    def __repr__(self) -> str:
        return f"<VerifiedReads of {self._blobs!r}>"

    async def open(self, digest: Digest, small: int) -> StoredBlob | None:
        """Open a stored blob that is intact; None if there is none. A wrong one is discarded.

        A blob of `small` bytes or less is read whole and proven by its digest; a larger one is
        proven by size and time, or by its hash if the time differs. Raises Unavailable if that
        cannot be told, for want of descriptors say.
        """
        while (entry := self._catalog.get(digest)) is not None:
            blob = await self._intact(digest, entry, small)
            if self._catalog.get(digest) is not entry:
                if blob is not None:
                    blob.close()
                continue  # evicted, discarded by another, or fetched anew meanwhile
            if blob is not None:
                self._accounting.touch(digest)
                return blob
            await self._discard(digest)
        return None

    async def _intact(self, digest: Digest, entry: Entry, small: int) -> StoredBlob | None:
        """Open a blob; None if it is missing, altered or unreadable. Raises Unavailable."""
        try:
            if entry.size <= small:
                return await self._whole(digest, entry)
            reader = await self._unchanged(digest, entry)
        except Unavailable:
            raise
        except StorageError:
            return None
        return None if reader is None else StoredBlob(entry, reader, None)

    async def _whole(self, digest: Digest, entry: Entry) -> StoredBlob | None:
        """Open a blob and prove all of its bytes; None if they are wrong. Raises StorageError."""
        reader = await self._blobs.open(digest)
        try:
            # One byte more than expected, so that a longer file shows.
            body = bytes(await reader.read(0, entry.size + 1))
        except BaseException:
            reader.close()
            raise
        if digest.proves(body):
            return StoredBlob(entry, reader, body)
        reader.close()
        return None

    async def _unchanged(self, digest: Digest, entry: Entry) -> BlobReader | None:
        """Open a blob that is unchanged since it was stored, by size and time, else by hash.

        None if it is not. Raises StorageError.
        """
        reader = await self._blobs.open(digest)
        if reader.size == entry.size and reader.changed_at != entry.changed_at:
            reader.close()
            proof = await self._blobs.prove(digest, entry.size)
            if proof is None:
                return None
            entry.changed_at = proof
            if self._catalog.get(digest) is entry:
                self._accounting.tell_of(digest, entry)
            reader = await self._blobs.open(digest)
        if (reader.size, reader.changed_at) == (entry.size, entry.changed_at):
            return reader
        reader.close()
        return None

    async def read(self, digest: Digest) -> bytes | None:
        """Return small content whole; None if it is wrong, which is discarded then.

        Raises Unavailable if that cannot be told.
        """
        entry = self._catalog.get(digest)
        try:
            body = await self._blobs.read(digest)
            if await self._threads.run_read(digest.proves, body):
                return body
        except Unavailable:
            raise
        except StorageError:
            pass
        if self._catalog.get(digest) is entry:  # else another reader did that
            await self._discard(digest)
        return None
