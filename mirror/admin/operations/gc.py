"""`gc`: removes useless files and rows, and evicts content beyond the quota."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

from mirror.admin.messages import Collected, GcOrder, Record
from mirror.admin.operations.parts import Parts
from mirror.oci.digest import Digest
from mirror.storage.catalog import Entry, charged
from mirror.storage.files import BlobFiles
from mirror.storage.graph import View
from mirror.storage.store import Store
from mirror.util.gc_pause import gc_paused


async def gc(parts: Parts, order: GcOrder) -> AsyncGenerator[Record, None]:
    """Yield the numbers of removed files and rows, or for a `dry` order of removable ones.

    Raises OSError.
    """
    yield await (_collectable(parts.store) if order.dry else _collect(parts))


async def _collect(parts: Parts) -> Collected:
    """Remove partials without a fetch, files without a row, and rows without their file.

    Then evict until the quota holds. Raises OSError.
    """
    store, before = parts.store, parts.store.catalog.view()
    lost, unknown = await store.run_read(gc_paused()(_compared), store.files, before)
    rows = 0
    for digest, entry in lost.items():
        rows += await _discard_lost(parts, digest, entry)
    partials, partial_bytes = await store.quota.remove_partials(
        list(store.accounting.idle_partials)
    )
    orphans, orphan_bytes = await store.quota.remove_orphans(unknown)
    evicted, evicted_bytes = store.accounting.evicted, store.accounting.evicted_bytes
    await store.trim()
    freed = partial_bytes + orphan_bytes + store.accounting.evicted_bytes - evicted_bytes
    return Collected(partials, orphans, rows, store.accounting.evicted - evicted, freed)


async def _collectable(store: Store) -> Collected:
    """Report the files and rows that `_collect` would remove."""
    before = store.catalog.view()
    lost, unknown = await store.run_read(gc_paused()(_compared), store.files, before)
    partials = [charged(size) for size in store.accounting.idle_partials.values()]
    orphans = [
        charged(size) for digest, size in unknown.items() if store.catalog.get(digest) is None
    ]
    store.accounting.overhead = await store.run_read(store.files.index_bytes)
    gone = [charged(entry.size) for entry in lost.values()]
    evicted = store.accounting.would_evict(sum(partials) + sum(gone))
    victims = [charged(entry.size) for each in evicted if (entry := before.get(each))]
    freed = sum(partials) + sum(orphans) + sum(victims)
    counts = len(partials), len(orphans), len(lost), len(victims)
    return Collected(*counts, freed, dry=True)


async def _discard_lost(parts: Parts, digest: Digest, entry: Entry) -> bool:
    """Discard a row without its file, if the file is still missing: it may have been refetched.

    The file is checked once more, and nothing runs between that check and the removal.
    """
    store = parts.store
    size = await store.run_read(_size_of, store.files.path(digest))
    if size == entry.size or store.catalog.get(digest) is not entry:
        return False
    parts.memory.drop(digest)
    await store.discard(digest)
    return True


def _compared(files: BlobFiles, before: View) -> tuple[dict[Digest, Entry], dict[Digest, int]]:
    """Find rows that differ from their file, and files without a row, with their size in bytes.

    Content that was there before the scan, and is unchanged after it, should have been found.
    """
    entries = dict(before.entries())
    found = {each.digest: each.size for each in files.scan()}
    lost = {digest: entry for digest, entry in entries.items() if found.get(digest) != entry.size}
    return lost, {digest: size for digest, size in found.items() if before.get(digest) is None}


def _size_of(path: Path) -> int | None:
    """Return the size of a file in bytes; `None` if there is no file. Raises OSError."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
