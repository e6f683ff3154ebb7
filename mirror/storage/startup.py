"""The start: brings the books into step with the disk, which is the truth. Reads no blob."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeVar

from mirror.oci.digest import Digest
from mirror.storage.blobs.files import BlobFiles
from mirror.storage.blobs.filesystem import FilesystemBlobs
from mirror.storage.blobs.protocol import ListedBlob
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.catalog import Catalog, Entry
from mirror.storage.data_folder import DataFolder
from mirror.storage.errors import StoreError
from mirror.storage.metadata.protocol import (
    MetadataDamaged,
    MetadataError,
    MetadataOpener,
    MetadataStore,
)
from mirror.storage.metadata.rows import BlobRow
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


class _Made(NamedTuple):
    """The parts of a store that are made before its index is open."""

    folder: DataFolder
    files: BlobFiles
    threads: DiskThreads


async def open_store(
    root: Path, max_size: int, open_index: MetadataOpener, *, spares: bool = False
) -> Store:
    """Open the data folder and repair its index, as `open_index` opens it; raises StoreError.

    A file without a row is adopted as a blob without links, and hashed before it is served. A row
    without a file is deleted. A file with another size than its row is quarantined, unless it
    `spares` such files: `Store.leave` ends that use. Partials stay, to be resumed. If the caller is
    cancelled, the start ends soon; its findings are found again next time.
    """
    folder, halted = DataFolder(root), threading.Event()
    files = BlobFiles(root, halted)
    try:
        await _on_thread(halted, lambda: _prepare(folder, files))
        with gc_paused():
            # Not concurrently with SQLite: two threads that create Python objects take longer than
            # one after the other (measured: 1.2 s for the names alone, 0.65 s without).
            on_disk = await _on_thread(halted, lambda: {f.digest: f for f in files.scan()})
            made = _Made(folder, files, DiskThreads(halted))
            return await _open(made, max_size, on_disk, open_index, spares=spares)
    except BaseException as error:
        folder.release()
        if isinstance(error, OSError):
            why = permissions.explain_refusal(error, root)
            raise StoreError(f"cannot read the data folder {root}: {why}") from None
        raise


def _prepare(folder: DataFolder, files: BlobFiles) -> None:
    folder.prepare()
    try:
        files.remove_leftovers()
    except OSError as error:
        raise folder.unwritable(error) from None


async def _on_thread(halted: threading.Event, work: Callable[[], T]) -> T:
    """Run a call on a thread. If cancelled, wait for its end: the lock is released after that."""
    job = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        halted.set()
        await run_to_completion(wait_until_done([job]))
        raise


async def _open(
    made: _Made,
    max_size: int,
    on_disk: dict[Digest, ListedBlob],
    open_index: MetadataOpener,
    *,
    spares: bool,
) -> Store:
    index = await open_index(made.folder.root)
    try:
        try:
            return await _repaired(made, index, max_size, on_disk.copy(), spares=spares)
        except MetadataDamaged as error:  # found no sooner than by reading all rows
            await index.start_over(error)
        return await _repaired(made, index, max_size, on_disk.copy(), spares=spares)
    except MetadataError as error:
        await index.abandon()
        raise StoreError(f"cannot read the index {index.name}: {error}") from None
    except BaseException:
        await index.abandon()  # an open index would keep the process alive
        raise


async def _repaired(
    made: _Made,
    index: MetadataStore,
    max_size: int,
    on_disk: dict[Digest, ListedBlob],
    *,
    spares: bool,
) -> Store:
    folder, files, threads = made
    set_aside = None if spares else files.set_aside
    catalog, altered = await _known(set_aside, index, on_disk, await index.blobs())
    adopted = await _adopt(index, catalog, on_disk)
    await _relate(index, catalog)
    blobs = FilesystemBlobs(files, threads)
    store = Store(folder, blobs, threads, index, catalog, max_size)
    store.altered = altered
    partials = sorted(files.scan_partials(), key=lambda found: found.changed_at)
    store.accounting.idle_partials.update((found.digest, found.size) for found in partials)
    for found in sorted(files.scan_quarantine(), key=lambda found: found.moved_at):
        store.accounting.quarantine.add(
            found.digest, Suspect(found.size, min(found.moved_at // _SECOND, int(time.time())))
        )
    await store.trim()
    kept, used, most = len(catalog), human(store.accounting.used), human(max_size)
    _log.info("%d files are stored, %s of %s; %d were not in the index", kept, used, most, adopted)
    return store


async def _known(
    set_aside: Callable[[Digest], object] | None,
    index: MetadataStore,
    on_disk: dict[Digest, ListedBlob],
    rows: Sequence[BlobRow],
) -> tuple[Catalog, list[Digest]]:
    """Enter the rows that have a file, least recently used first; also return the altered digests.

    A missing file is no finding: a crash may have come between evicting it and deleting its row.
    Differing files are moved by `set_aside`, if given.
    """
    catalog, altered = Catalog(), []
    now = int(time.time())
    async for row in cooperatively(rows):
        used_at = min(
            row.used_at, now
        )  # otherwise a clock that was set back would keep it for ever
        found = on_disk.get(row.digest)
        if found is not None and found.size == row.size:
            catalog.add(row.digest, Entry(row.size, row.media_type, used_at, row.changed_at))
            continue
        index.drop(row.digest)
        if on_disk.pop(row.digest, None):  # altered while no mirror ran: must not be adopted
            altered.append(row.digest)
            if set_aside is not None:
                set_aside(row.digest)
    return catalog, altered


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
    """Enter links and children. Rows that a crash left for content that is gone are deleted."""
    async for link in cooperatively(await index.links()):
        if not catalog.link(link.digest, link.repository) and catalog.get(link.digest) is None:
            index.drop(link.digest)
    async for row in cooperatively(await index.types()):
        entry = catalog.get(row.digest)
        if entry is None:
            index.drop(row.digest)
        elif entry.media_type is not None:
            catalog.describe(row.digest, row.media_type, (), row.upstream)
    children = groupby(await index.children(), key=lambda row: row.manifest)
    async for digest, rows in cooperatively(children):
        entry = catalog.get(digest)
        if entry is None:
            index.drop(digest)
        elif entry.media_type is not None:
            catalog.describe(digest, entry.media_type, tuple(row.digest for row in rows))
