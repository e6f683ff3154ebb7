"""Leftovers: files without an entry, entries without their file, and idle partials."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from mirror.oci.digest import Digest
from mirror.storage.accounting import Accounting
from mirror.storage.blobs.protocol import BlobStore
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.entry import Entry
from mirror.storage.graph import Differences, differences
from mirror.storage.maintenance import Maintenance
from mirror.storage.quota import Quota
from mirror.util.gc_pause import gc_paused


class Leftovers:
    """Finds and removes leftovers; `discard` quarantines a blob that is damaged or missing."""

    def __init__(
        self,
        blobs: BlobStore,
        threads: DiskThreads,
        accounting: Accounting,
        quota: Quota,
        maintenance: Maintenance,
        discard: Callable[[Digest], Awaitable[None]],
    ) -> None:
        self._blobs = blobs
        self._threads = threads
        self._accounting = accounting
        self._quota = quota
        self._maintenance = maintenance
        self._discard = discard

    def __repr__(self) -> str:
        return f"<Leftovers of {self._accounting!r}>"

    async def compare(self) -> Differences:
        """Compare the accounting with the disk; raises StorageError."""
        view, run = self._accounting.catalog.view(), self._threads.run_read
        before = await run(gc_paused()(lambda: dict(view.entries())))
        found = await self._blobs.scan()
        return await run(gc_paused()(differences), before, found, view.get)

    async def discard_lost(self, digest: Digest, entry: Entry) -> bool:
        """Discard an entry without its blob, if that is still missing: it may have been refetched.

        The blob is looked for once more, and nothing runs between that and the removal. Raises
        StorageError.
        """
        size = await self._blobs.size(digest)
        if size == entry.size or self._accounting.catalog.get(digest) is not entry:
            return False
        await self._discard(digest)
        return True

    async def remove_partials(self, digests: Iterable[Digest]) -> tuple[int, int]:
        """Remove the idle ones of these partials; returns their number and bytes.

        Raises StorageError.
        """
        return await self._quota.remove_partials(digests)

    async def remove_orphans(self, sizes: dict[Digest, int]) -> tuple[int, int]:
        """Remove the blobs, given by size in bytes, that are not in the accounting.

        Returns their number and bytes. Raises StorageError.
        """
        return await self._quota.remove_orphans(sizes)

    async def would_evict(self, freed: int) -> list[Digest]:
        """Return the blobs to evict to keep the bound, with the index as large as it is now.

        See `Accounting.would_evict`. Raises StorageError.
        """
        self._accounting.overhead = await self._threads.run_read(self._maintenance.overhead)
        return self._accounting.would_evict(freed)
