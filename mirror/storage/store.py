"""The store: writes content and finds it again, with files and accounting in step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.storage.accounting import Accounting
from mirror.storage.blobs.protocol import BlobReader, BlobStore
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.catalog import Catalog
from mirror.storage.data_folder import DataFolder
from mirror.storage.entry import Entry
from mirror.storage.errors import Stopping, StorageError
from mirror.storage.leftovers import Leftovers
from mirror.storage.maintenance import Maintenance
from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.partial_lease import PartialLease
from mirror.storage.pins import HALF, Pins
from mirror.storage.quota import Quota
from mirror.storage.space import Taken
from mirror.storage.stored_blob import Hold, StoredBlob
from mirror.storage.verified_reads import VerifiedReads
from mirror.util.uncancelled import run_to_completion

_log = logging.getLogger(__name__)
T = TypeVar("T")
_LAST_WORDS, _LAST_ROWS = 3.0, 4.0  # seconds of a stop to publish proven content, to write rows


class Store:
    """All stored content. `max_size` bounds files, partials, reserved room and index, in bytes.

    Pinned images may take `max_pinned` of it, from 0 to 1.

    Room is reserved before a write, after evicted files are unlinked, so that the bound holds at
    every moment. Other rooms use the methods of this class, its `index`, `pins` and `leftovers`,
    and the queries of its `catalog`, which only this class changes. `accounting`, `quota` and
    `blobs` are the store's own (tests/project/test_seams.py).
    """

    def __init__(
        self,
        folder: DataFolder,
        blobs: BlobStore,
        threads: DiskThreads,
        index: MetadataStore,
        catalog: Catalog,
        max_size: int,
        max_pinned: float = HALF,
    ) -> None:
        self.root = folder.root
        self.blobs = blobs
        self.index = index
        self.catalog = catalog
        self.accounting = Accounting(index, catalog, max_size)
        self.pins = Pins(index, catalog, max_pinned)
        self.pins.resize(max_size)
        self.quota = Quota(self.accounting, blobs)
        self.failures = 0
        self.altered: list[Digest] = []  # found with a wrong size at start, and discarded
        self._folder = folder
        self._threads = threads
        self._maintenance = Maintenance(
            folder, blobs, threads, index, self.accounting, self.quota, self._count_failure
        )
        self.leftovers = Leftovers(
            blobs, threads, self.accounting, self.quota, self._maintenance, self.discard
        )
        self._reads = VerifiedReads(blobs, threads, self.accounting, self.discard)

    def __repr__(self) -> str:
        return f"<Store: {len(self.catalog)} kept, {self.used} of {self.max_size} bytes>"

    def _count_failure(self) -> None:
        self.failures += 1

    async def trouble(self) -> str | None:
        """Return the disk's problem, None if there is none; see `BlobStore.trouble`."""
        return await self.blobs.trouble()

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Run a call that writes on a thread; see `DiskThreads.run`."""
        return await self._threads.run(work, *args)

    async def run_read(self, work: Callable[..., T], *args: object) -> T:
        """Run a call that only reads or computes on a thread; see `DiskThreads.run_read`."""
        return await self._threads.run_read(work, *args)

    # Space

    @property
    def max_size(self) -> int:
        """The bound in bytes."""
        return self.accounting.max_size

    @property
    def used(self) -> int:
        """Bytes used or reserved."""
        return self.accounting.used

    @property
    def evicted(self) -> int:
        """How many blobs and manifests were evicted."""
        return self.accounting.evicted

    @property
    def evicted_bytes(self) -> int:
        """The bytes of these."""
        return self.accounting.evicted_bytes

    def taken(self) -> Taken:
        """Return the parts of `used`."""
        return self.accounting.taken()

    def idle_partials(self) -> Mapping[Digest, int]:
        """Return the partials without a fetch, by size in bytes."""
        return MappingProxyType(self.accounting.idle_partials.data)

    def bound_by(self, max_size: int) -> None:
        """Set the bound of a store that was opened without one, for an order without a daemon.

        The headroom for the index, and the share of the quarantine, stay those of the opening.
        """
        self.accounting.max_size = max_size
        self.pins.resize(max_size)

    def fits(self, size: int) -> bool:
        """Whether `size` more bytes fit, if everything that can be evicted is evicted."""
        return self.quota.fits(size)

    def change_max_size(self, max_size: int, max_pinned: float | None = None) -> None:
        """Change the bound, and its part for pinned images; `trim` then enforces a lower one."""
        self.accounting.change(max_size)
        self.pins.max_pinned = self.pins.max_pinned if max_pinned is None else max_pinned
        self.pins.resize(max_size)

    # Upkeep

    async def keep_books(self) -> None:
        """Flush the index, and keep the bound as it grows; runs until cancelled."""
        await self._maintenance.run()

    async def trim(self) -> None:
        """Evict until the bound holds, after the index grew or the bound was lowered."""
        await self._maintenance.trim()

    def hurry(self) -> None:
        """Limit disk I/O for a stop: after 3 s, none is started, and after 4 s none for the index.

        Proven content has that long to be published; unproven content stays as a partial. Hashing
        and copying for clients end at once: no client is left.
        """
        self._threads.halted.set()
        self.index.hurry(_LAST_ROWS)
        asyncio.get_running_loop().call_later(_LAST_WORDS, self._threads.drop)

    async def close(self) -> None:
        """Flush the index and release files and folder, even if the caller is cancelled."""
        await run_to_completion(self._close())

    async def leave(self) -> None:
        """Close the files and unlock the folder, writing nothing."""
        await run_to_completion(self._let_go(self.index.abandon()))

    async def _close(self) -> None:
        await self._maintenance.note_last_uses()
        await self._let_go(self.index.close())

    async def _let_go(self, ending: Coroutine[object, object, None]) -> None:
        try:
            await ending
        finally:
            self._threads.drop()
            await self.blobs.close()
            await self._threads.close()
            self._folder.release()

    # Links and uses

    def touch(self, digest: Digest) -> None:
        """Record a use: in memory now, in the index once an hour and at a stop."""
        self.accounting.touch(digest)

    def link(self, digest: Digest, repository: Repository) -> None:
        """Record that a repository contains a stored digest."""
        self.accounting.link(digest, repository)

    def unlink(self, digest: Digest, repository: Repository) -> None:
        """Remove the record that a repository contains a stored digest."""
        self.accounting.unlink(digest, repository)

    def describe(self, manifest: Manifest, upstream: str) -> None:
        """Record that a stored blob is this manifest; see `Accounting.describe`."""
        self.accounting.describe(manifest, upstream)
        self.pins.arrived(manifest.descriptor.digest)

    # Storing

    def lease(
        self,
        digest: Digest,
        *,
        isolated: bool = False,
        reserving: Callable[[int], None] = lambda _bytes: None,
    ) -> PartialLease:
        """Return the right to write a blob. One lease at a time may be not `isolated`."""
        return PartialLease(
            digest,
            self.blobs,
            self.accounting,
            self.quota,
            isolated=isolated,
            reserving=reserving,
        )

    async def keep_manifest(self, manifest: Manifest, repository: Repository) -> bool:
        """Store a proven manifest; False, with a log line, if that fails.

        Also waits for the pull that fetched it to be on the disk, half a second at most: that write
        began when the manifest arrived, and runs beside the file's.
        """
        try:
            await run_to_completion(self._keep_manifest(manifest, repository))
        except StorageError as error:
            self.not_kept(f"manifest {manifest.descriptor.digest}", error)
            return False
        await self.index.pulls_written()
        return True

    async def _keep_manifest(self, manifest: Manifest, repository: Repository) -> None:
        found = manifest.descriptor
        promised = await self.quota.reserve(found.size)
        try:
            async with self.quota.naming(found.digest):
                changed_at = await self.blobs.write(found.digest, manifest.body)
                self.accounting.enter(found.digest, found.size, found.media_type, changed_at)
                self.describe(manifest, repository.upstream)
                self.accounting.link(found.digest, repository)
        finally:
            self.quota.release(promised)

    def not_kept(self, what: str, error: StorageError) -> None:
        """Count and log content that is passed through unstored; a stop is no failure."""
        if isinstance(error, Stopping):
            _log.info("%s is not stored: the mirror is stopping", what)
            return
        self.failures += 1
        _log.error("cannot store %s, passing it through: %s", what, error)

    # Finding

    def open(self, digest: Digest, *, small: int = 0) -> Coroutine[Any, Any, StoredBlob | None]:
        """Open a stored blob that is intact; see `VerifiedReads.open`. Raises Unavailable."""
        return self._reads.open(digest, small)

    def read(self, digest: Digest) -> Coroutine[Any, Any, bytes | None]:
        """Return small content whole; see `VerifiedReads.read`. Raises Unavailable."""
        return self._reads.read(digest)

    def hold(self, entry: Entry) -> Hold:
        """Keep stored content from eviction until the hold is released."""
        return Hold(entry)

    async def open_unproven(self, digest: Digest) -> BlobReader:
        """Open a stored blob to verify it: neither a hold nor a use; raises StorageError."""
        return await self.blobs.open(digest)

    async def is_current(self, digest: Digest, entry: Entry, reader: BlobReader | None) -> bool:
        """Whether a blob that was found damaged is still stored, and was not replaced meanwhile.

        Raises StorageError.
        """
        same = reader is None or await self.blobs.is_current(digest, reader)
        return same and self.catalog.get(digest) is entry

    # Removal

    async def remove(self, digests: Iterable[Digest]) -> int:
        """Remove content, even while it is read; returns the freed bytes. Raises StorageError."""
        return await self.quota.remove(digests)

    # Repair

    async def discard(self, digest: Digest) -> None:
        """Remove a wrong blob from the accounting, and quarantine it.

        A missing blob needs no quarantine; a blob that the disk fails to move is moved later.
        """
        _log.error("%s is damaged or missing: quarantined", digest)
        self.failures += 1
        entry = self.accounting.forget(digest)
        self.accounting.stuck[digest] = entry.size if entry else 0
        await self.quota.set_aside(digest)
