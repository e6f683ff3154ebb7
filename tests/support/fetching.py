"""Fetches and blobs from sources in memory, stored in a folder: no HTTP on either side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mirror.app.closing import closed
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.content.blobs.possession import Possession
from mirror.content.blobs.service import BlobService
from mirror.content.memory_cache import MemoryCache
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.startup import open_store
from tests.support.memory_metadata import open_memory
from tests.support.memory_source import MemorySource


@dataclass(frozen=True)
class Fetching:
    """The pool of fetches, and the service of blobs before it."""

    fetches: FetchPool
    blobs: BlobService

    async def ended(self) -> None:
        """Wait until nothing is fetched."""
        async with asyncio.timeout(5):
            while len(self.fetches):
                await asyncio.to_thread(len, self.fetches)


@asynccontextmanager
async def fetching(
    folder: Path, sources: dict[str, MemorySource], reprieve: float = 60
) -> AsyncIterator[Fetching]:
    """Fetch from sources; a fetch without followers has `reprieve` seconds if little is left."""
    async with AsyncExitStack() as stack, asyncio.timeout(20):
        store = closed(stack, await open_store(folder, 10**8, open_filesystem, open_memory))
        possession, memory = closed(stack, Possession(store, bytes(32))), MemoryCache(10**6)
        fetches = FetchPool(
            sources, store, possession, memory, abandon_after=0, max_fetches=2, reprieve=reprieve
        )
        blobs = BlobService(sources, store, fetches, possession, memory, missing_ttl=60)
        yield Fetching(fetches, closed(stack, blobs))
