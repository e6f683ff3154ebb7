"""`purge`: removes an image, a repository, or content by its digest."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TypeVar

from mirror.admin.messages import NotStored, OrderError, OrderInvalid, Purged, PurgeOrder, Record
from mirror.admin.operations.parts import OperationParts
from mirror.admin.operations.purge_plan import (
    PurgePlan,
    pinned_refusal,
    plan_purge,
    predict_purge,
    remaining,
)
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError
from mirror.oci.image_name import ImageName
from mirror.storage.catalog import charged
from mirror.util.cooperative import BATCH, cooperatively
from mirror.util.gc_pause import gc_paused

V = TypeVar("V")


async def purge(parts: OperationParts, order: PurgeOrder) -> AsyncGenerator[Record, None]:
    """Yield the numbers of removed tags and files, or for a `dry` order of removable ones.

    Raises OrderError, StorageError.
    """
    pinned = {image: pin.digest for image, pin in parts.store.pins.images.items()}
    found = await _planned(parts, order.target, pinned, predict_purge if order.dry else plan_purge)
    if isinstance(found, Digest):
        found = await _purge_digest(parts, found, dry=order.dry)
    yield await _carry_out(parts, found) if isinstance(found, PurgePlan) else found


async def _planned(
    parts: OperationParts, text: str, pinned: dict[ImageName, Digest], plan: Callable[..., V]
) -> V:
    """Plan a purge, or predict it, on a thread; raises OrderError."""
    catalog, known = parts.store.catalog, parts.tags.known()
    try:
        return await parts.store.run_read(
            gc_paused()(plan), text, catalog.view(), known, pinned, catalog.upstreams
        )
    except RegistryError as error:
        raise OrderInvalid(error.message) from None


async def _carry_out(parts: OperationParts, plan: PurgePlan) -> Purged:
    """Carry out a plan; content that manifests stored meanwhile need is spared."""
    gone = await parts.store.run_read(remaining, plan, parts.store.catalog.view())
    async for digest in cooperatively(plan.unlinked):
        parts.store.unlink(digest, plan.repository)
    async for key in cooperatively(plan.tags):
        parts.tags.drop(key)
    freed = await _remove(parts, gone)
    shared = plan.shared + len(plan.gone) - len(gone)
    return Purged(str(plan.target), len(plan.tags), len(gone), shared, freed)


async def _purge_digest(parts: OperationParts, digest: Digest, *, dry: bool) -> Purged:
    """Remove content by its digest, even if an image needs it: the next request fetches it."""
    if pinned := parts.store.pins.holding(digest):
        raise OrderError(pinned_refusal(pinned))
    if dry:
        return _purgeable_digest(parts, digest)
    partials, partial_bytes = await parts.store.leftovers.remove_partials([digest])
    kept = parts.store.catalog.get(digest) is not None
    if not kept and not partials:
        raise NotStored(f"nothing of {digest} is stored")
    freed = await _remove(parts, [digest])
    return Purged(str(digest), 0, int(kept) + partials, 0, freed + partial_bytes)


def _purgeable_digest(parts: OperationParts, digest: Digest) -> Purged:
    entry = parts.store.catalog.get(digest)
    partial = parts.store.idle_partials().get(digest)
    kept = None if entry is None else entry.size
    sizes = [size for size in (kept, partial) if size is not None]
    if not sizes:
        raise NotStored(f"nothing of {digest} is stored")
    return Purged(str(digest), 0, len(sizes), 0, sum(map(charged, sizes)), dry=True)


async def _remove(parts: OperationParts, digests: Iterable[Digest]) -> int:
    """Remove content, a batch at a time; returns the freed bytes. Raises StorageError.

    Content that was pinned meanwhile stays.
    """
    ahead, freed, pins = list(digests), 0, parts.store.pins
    for start in range(0, len(ahead), BATCH):
        batch = [each for each in ahead[start : start + BATCH] if not pins.holding(each)]
        for digest in batch:
            parts.memory.drop(digest)
        freed += await parts.store.remove(batch)
    return freed
