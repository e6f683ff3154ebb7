"""`du`: reports the use of the disk, by repository and image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace

from mirror.admin.messages import (
    DuOrder,
    ImageUsage,
    OrderInvalid,
    Record,
    RepositoryUsage,
    Usage,
)
from mirror.admin.operations.inventory import take_inventory
from mirror.admin.operations.parts import OperationParts, charged_for
from mirror.oci.digest import Digest
from mirror.oci.errors import shown
from mirror.oci.names import Repository
from mirror.storage.graph import Images, View
from mirror.storage.metadata.rows import TagKey
from mirror.storage.space import Taken
from mirror.util.gc_pause import gc_paused


async def du(parts: OperationParts, order: DuOrder) -> AsyncGenerator[Record, None]:
    """Yield the use of the disk, measured on a thread: a large cache takes a second.

    Raises OrderInvalid.
    """
    store, measure = parts.store, gc_paused()(_measure)
    view, known, taken = store.catalog.view(), parts.tags.known(), store.taken()
    pinned = store.catalog.pinned_bytes
    usage = await store.run_read(measure, view, known, taken, store.max_size, pinned)
    yield _page(usage, order.limit, order.after)


def _page(usage: Usage, limit: int | None, after: str | None) -> Usage:
    """Return the usage with some of its repositories; raises OrderInvalid."""
    rows = usage.repositories
    if after is not None:
        places = [number for number, row in enumerate(rows, 1) if row.repository == after]
        if not places:
            raise OrderInvalid(
                f"no repository {shown(after)} is in this list: begin at its first page"
            )
        rows = rows[places[0] :]
    page = rows[:limit]
    more = len(page) < len(rows)
    return replace(usage, repositories=page, after=page[-1].repository if more else None)


def _measure(
    view: View, known: Iterable[tuple[TagKey, Digest]], taken: Taken, limit: int, pinned: int
) -> Usage:
    holders = view.holders()
    sizes = {digest: charged_for(view, [digest]) for digest in holders}
    kept = sum(sizes.values())  # content is added and removed meanwhile
    images = _images(view, view.images(known, holders))
    held: dict[Repository, list[Digest]] = defaultdict(list, {name: [] for name in images})
    for digest, repositories in holders.items():
        for repository in repositories:
            held[repository].append(digest)
    rows = [
        RepositoryUsage(
            str(repository),
            sum(sizes[digest] for digest in digests),
            sum(sizes[digest] for digest in digests if len(holders[digest]) == 1),
            tuple(sorted(images[repository], key=lambda image: (-image.bytes, image.reference))),
        )
        for repository, digests in held.items()
    ]
    return Usage(
        limit=limit,
        used=taken.all - taken.kept + kept,
        kept=kept,
        partial=taken.partial,
        promised=taken.promised,
        index=taken.index,
        leaving=taken.leaving,
        quarantine=taken.quarantine,
        shared=sum(sizes[digest] for digest, where in holders.items() if len(where) > 1),
        unclaimed=sum(sizes[digest] for digest, where in holders.items() if not where),
        pinned=pinned,
        repositories=tuple(sorted(rows, key=lambda row: (-row.bytes, row.repository))),
    )


def _images(view: View, roots: Images) -> dict[Repository, list[ImageUsage]]:
    """Measure each image, and the part of it that no other image needs."""
    inventory = take_inventory(view, roots)
    images: dict[Repository, list[ImageUsage]] = defaultdict(list)
    for (repository, reference), digest in roots.items():
        images[repository].append(ImageUsage(reference, digest, *inventory.sizes(digest)))
    return images
