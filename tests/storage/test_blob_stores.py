"""The implementations of `BlobStore` keep its promises."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mirror.storage.blobs.files import BlobFiles
from mirror.storage.blobs.filesystem import FilesystemBlobs
from mirror.storage.blobs.protocol import BlobStore
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.data_folder import DataFolder
from tests.storage import blob_store_conformance
from tests.support.memory_blobs import MemoryBlobs


@asynccontextmanager
async def in_files(root: Path) -> AsyncIterator[tuple[FilesystemBlobs, DiskThreads]]:
    """Keep blobs in a data folder."""
    folder, threads = DataFolder(root), DiskThreads(threading.Event())
    folder.prepare()
    blobs = FilesystemBlobs(BlobFiles(root, threads.halted), threads)
    yield blobs, threads
    await blobs.close()
    await threads.close()
    folder.release()


class TestFilesystem(blob_store_conformance.BlobStoreConformance):
    """The blobs in files of a data folder."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[BlobStore]:
        """Keep blobs in the folder."""
        async with in_files(folder) as (blobs, _):
            yield blobs


class TestMemory(blob_store_conformance.BlobStoreConformance):
    """The blobs in memory."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[BlobStore]:  # noqa: ARG002 - as the base
        """Keep blobs in memory."""
        yield MemoryBlobs()
