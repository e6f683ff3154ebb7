"""`ls`: lists the stored images, a page at a time.

A page in the order of names is found among the repositories on it. The other orders need all
images: those of their last walk are kept, see `kept`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mirror.admin.messages import LsOrder, Record, StoredImages
from mirror.admin.operations.image_pages import ImagePages
from mirror.admin.operations.parts import OperationParts
from mirror.util.gc_pause import gc_paused


async def ls(parts: OperationParts, order: LsOrder) -> AsyncGenerator[Record, None]:
    """Yield a page of images, found on a thread. Raises OrderError."""
    pages = ImagePages(parts.store.catalog, parts.tags, frozenset(parts.store.pins.images), order)
    yield await (_by_name if order.sort == "name" else _by_rank)(parts, pages)


async def _by_name(parts: OperationParts, pages: ImagePages) -> StoredImages:
    lists, pattern = parts.lists, pages.order.pattern
    async with lists.naming:
        total = lists.counts.get(pattern)
        work = gc_paused()(pages.by_name)
        page, took = await parts.store.run_read(work, parts.tags.known(), total)
        if total is None:
            lists.counts.put(pattern, page.total, took)
    return page


async def _by_rank(parts: OperationParts, pages: ImagePages) -> StoredImages:
    walks = parts.lists.walks
    async with parts.lists.walking:
        kept = walks.get(None)
        if kept is None:
            walk = gc_paused()(pages.walk)
            made, took = await parts.store.run_read(walk, parts.tags.known(), walks.expired())
            walks.put(None, made, took)
            kept = made
        return await parts.store.run_read(gc_paused()(pages.by_rank), kept)
