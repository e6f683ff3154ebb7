"""`gc`: removes useless files and rows, and evicts content beyond the quota."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mirror.admin.messages import Collected, GcOrder, Record
from mirror.admin.operations.parts import OperationParts
from mirror.oci.digest import Digest
from mirror.storage.catalog import charged
from mirror.storage.entry import Entry
from mirror.storage.store import Store


async def gc(parts: OperationParts, order: GcOrder) -> AsyncGenerator[Record, None]:
    """Yield the numbers of removed files and rows, or for a `dry` order of removable ones.

    Raises StorageError.
    """
    yield await (_collectable(parts.store) if order.dry else _collect(parts))


async def _collect(parts: OperationParts) -> Collected:
    """Remove partials without a fetch, files without a row, and rows without their file.

    Then evict until the quota holds. Raises StorageError.
    """
    store, rows = parts.store, 0
    lost, unknown = await store.leftovers.compare()
    for digest, entry in lost.items():
        rows += await _discard_lost(parts, digest, entry)
    partials, partial_bytes = await store.leftovers.remove_partials(list(store.idle_partials()))
    orphans, orphan_bytes = await store.leftovers.remove_orphans(unknown)
    evicted, evicted_bytes = store.evicted, store.evicted_bytes
    await store.trim()
    freed = partial_bytes + orphan_bytes + store.evicted_bytes - evicted_bytes
    return Collected(partials, orphans, rows, store.evicted - evicted, freed)


async def _collectable(store: Store) -> Collected:
    """Report the files and rows that `_collect` would remove."""
    before = store.catalog.view()
    lost, unknown = await store.leftovers.compare()
    partials = [charged(size) for size in store.idle_partials().values()]
    orphans = [
        charged(size) for digest, size in unknown.items() if store.catalog.get(digest) is None
    ]
    gone = [charged(entry.size) for entry in lost.values()]
    evicted = await store.leftovers.would_evict(sum(partials) + sum(gone))
    victims = [charged(entry.size) for each in evicted if (entry := before.get(each))]
    freed = sum(partials) + sum(orphans) + sum(victims)
    counts = len(partials), len(orphans), len(lost), len(victims)
    return Collected(*counts, freed, dry=True)


async def _discard_lost(parts: OperationParts, digest: Digest, entry: Entry) -> bool:
    """Discard a row without its file, if the file is still missing: it may have been refetched.

    The file is checked once more, and nothing runs between that check and the removal.
    """
    lost = await parts.store.leftovers.discard_lost(digest, entry)
    if lost:
        parts.memory.drop(digest)
    return lost
