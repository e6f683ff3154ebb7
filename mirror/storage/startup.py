"""The start: brings the books into step with the disk, which is the truth. Reads no blob."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from mirror.oci.digest import Digest
from mirror.storage.blobs.protocol import BlobStore, ListedBlob, Recovered
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.catalog import Catalog
from mirror.storage.data_folder import DataFolder
from mirror.storage.entry import Entry
from mirror.storage.errors import StorageError, StoreError
from mirror.storage.metadata.protocol import (
    MetadataDamaged,
    MetadataError,
    MetadataOpener,
    MetadataStore,
)
from mirror.storage.metadata.rows import BlobRow
from mirror.storage.pins import HALF
from mirror.storage.quarantine import Suspect
from mirror.storage.store import Store
from mirror.util import permissions
from mirror.util.cooperative import cooperatively
from mirror.util.gc_pause import gc_paused
from mirror.util.uncancelled import run_to_completion, wait_until_done
from mirror.util.units import human

_log = logging.getLogger(__name__)
T = TypeVar("T")
_SECOND = 10**9  # nanoseconds


# Opens the blobs in a data folder, on a thread; raises OSError where it cannot be written to.
BlobOpener = Callable[[Path, DiskThreads], BlobStore]


@dataclass(frozen=True, slots=True)
class _Found:
    """The content of the data folder, its bound for pins, and the blobs found altered."""

    folder: DataFolder
    blobs: BlobStore
    threads: DiskThreads
    recovered: Recovered
    max_pinned: float
    # By size in bytes; None where the file stays.
    altered: dict[Digest, int | None] = field(default_factory=dict)


async def open_store(
    root: Path,
    max_size: int,
    open_blobs: BlobOpener,
    open_index: MetadataOpener,
    *,
    max_pinned: float = HALF,
    spares: bool = False,
) -> Store:
    """Open the data folder and repair its index; raises StoreError.

    Pinned images may take `max_pinned` of `max_size`, from 0 to 1.

    A blob without a row is adopted without links, and hashed before it is served. A row without a
    blob is deleted. A blob with another size than its row is quarantined, unless the start
    `spares` such blobs: `Store.leave` ends that use. Partials stay, to be resumed. If the caller is
    cancelled, the start ends soon; its findings are found again next time.
    """
    folder, threads = DataFolder(root), DiskThreads(threading.Event())
    try:
        opening = asyncio.to_thread(_prepared, folder, open_blobs, threads)
        blobs = await _in_full(threads, opening)
        with gc_paused():
            # Not concurrently with SQLite: two threads that create Python objects take longer than
            # one after the other (measured: 1.2 s for the names alone, 0.65 s without).
            recovered = await _in_full(threads, blobs.recover())
            found = _Found(folder, blobs, threads, recovered, max_pinned)
            return await _open(found, max_size, open_index, spares=spares)
    except BaseException as error:
        folder.release()
        if isinstance(error, StorageError):
            raise StoreError(f"cannot read the data folder {root}: {_why(error, root)}") from None
        raise


def _prepared(folder: DataFolder, open_blobs: BlobOpener, threads: DiskThreads) -> BlobStore:
    folder.prepare()
    try:
        return open_blobs(folder.root, threads)
    except OSError as error:
        raise folder.unwritable(error) from None


def _why(error: StorageError, root: Path) -> str:
    cause = error.__cause__
    return permissions.explain_refusal(cause, root) if isinstance(cause, OSError) else error.reason


async def _in_full(threads: DiskThreads, work: Coroutine[Any, Any, T]) -> T:
    """Run work on threads. If cancelled, halt it and wait for its end: the lock is held so long."""
    job = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        threads.halted.set()
        await run_to_completion(wait_until_done([job]))
        raise


async def _open(found: _Found, max_size: int, open_index: MetadataOpener, *, spares: bool) -> Store:
    index = await open_index(found.folder.root)
    try:
        try:
            return await _repaired(found, index, max_size, spares=spares)
        except MetadataDamaged as error:  # found no sooner than by reading all rows
            await index.start_over(error)
        return await _repaired(found, index, max_size, spares=spares)
    except MetadataError as error:
        await index.abandon()
        raise StoreError(f"cannot read the index {index.name}: {error}") from None
    except BaseException:
        await index.abandon()  # an open index would keep the process alive
        raise


async def _repaired(found: _Found, index: MetadataStore, max_size: int, *, spares: bool) -> Store:
    rows = await index.blobs()
    catalog = await _known(found, index, rows, spares=spares)
    adopted = await _adopt(index, catalog, found.recovered.blobs)
    await _relate(index, catalog)
    store = Store(
        found.folder, found.blobs, found.threads, index, catalog, max_size, found.max_pinned
    )
    store.altered = [*found.altered]
    _account(found, store)
    await store.pins.load()
    if adopted and not rows:
        _log.warning("the index was lost: no image is pinned any more")
    await store.trim()
    kept, used, most = len(catalog), human(store.accounting.used), human(max_size)
    _log.info("%d files are stored, %s of %s; %d were not in the index", kept, used, most, adopted)
    return store


def _account(found: _Found, store: Store) -> None:
    """Enter the partials and the quarantined blobs, oldest first."""
    now, accounting = int(time.time()), store.accounting
    for partial in sorted(found.recovered.partials, key=lambda each: each.changed_at):
        accounting.idle_partials[partial.digest] = partial.size
    for suspect in sorted(found.recovered.quarantined, key=lambda each: each.moved_at):
        moved_at = min(suspect.moved_at // _SECOND, now)
        accounting.quarantine.add(suspect.digest, Suspect(suspect.size, moved_at))
    for digest, size in found.altered.items():
        if size is not None:
            accounting.quarantine.add(digest, Suspect(size, now))


async def _known(
    found: _Found, index: MetadataStore, rows: Sequence[BlobRow], *, spares: bool
) -> Catalog:
    """Enter the rows that have a blob, least recently used first; set altered blobs aside.

    A missing blob is no finding: a crash may have come between evicting it and deleting its row.
    """
    catalog, now, on_disk = Catalog(), int(time.time()), found.recovered.blobs
    async for row in cooperatively(rows):
        # No later than now: otherwise a clock that was set back would keep it for ever.
        used_at = min(row.used_at, now)
        listed = on_disk.get(row.digest)
        if listed is not None and listed.size == row.size:
            catalog.add(row.digest, Entry(row.size, row.media_type, used_at, row.changed_at))
            continue
        index.drop(row.digest)
        if on_disk.pop(row.digest, None):  # altered while no mirror ran: must not be adopted
            moved = None if spares else await found.blobs.quarantine(row.digest)
            found.altered[row.digest] = moved
    return catalog


async def _adopt(index: MetadataStore, catalog: Catalog, on_disk: dict[Digest, ListedBlob]) -> int:
    """Enter the files without a row: each was proven before it was published.

    It may have been altered since: without a recorded time to compare, it is hashed once.
    """
    orphans = [found for found in on_disk.values() if catalog.get(found.digest) is None]
    async for found in cooperatively(sorted(orphans, key=lambda found: found.changed_at)):
        used_at = found.changed_at // _SECOND
        catalog.add(found.digest, Entry(found.size, None, used_at))
        index.put_blob(BlobRow(found.digest, found.size, None, used_at))
    return len(orphans)


async def _relate(index: MetadataStore, catalog: Catalog) -> None:
    """Enter links and children, except those of rows without a file: these rows are going."""
    async for link in cooperatively(await index.links()):
        catalog.link(link.digest, link.repository)
    async for row in cooperatively(await index.types()):
        entry = catalog.get(row.digest)
        if entry is not None and entry.media_type is not None:
            catalog.describe(row.digest, row.media_type, (), row.upstream)
    children = groupby(await index.children(), key=lambda row: row.manifest)
    async for digest, rows in cooperatively(children):
        entry = catalog.get(digest)
        if entry is not None and entry.media_type is not None:
            catalog.describe(digest, entry.media_type, tuple(row.digest for row in rows))
