"""A store with its blobs in memory, for tests of its users, on a disk that fails at will."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.catalog import Catalog
from mirror.storage.data_folder import DataFolder
from mirror.storage.store import Store
from tests.support.memory_blobs import MemoryBlobs
from tests.support.memory_metadata import MemoryMetadata


@asynccontextmanager
async def memory_store(
    folder: Path, max_size: int = 10**8
) -> AsyncIterator[tuple[Store, MemoryBlobs]]:
    """Open a store with nothing in it, and no file; `folder` is only its name."""
    index, blobs = MemoryMetadata(), MemoryBlobs()
    threads = DiskThreads(threading.Event())
    store = Store(DataFolder(folder), blobs, threads, index, Catalog(), max_size)
    try:
        yield store, blobs
    finally:
        await store.close()
