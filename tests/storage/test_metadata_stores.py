"""The implementations of `MetadataStore` keep its promises."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import ClassVar

from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.metadata.rows import BlobRow
from mirror.storage.metadata.sqlite.store import open_sqlite
from tests.storage import metadata_store_conformance
from tests.storage.metadata_store_conformance import NOW, ONE
from tests.support.memory_metadata import MemoryMetadata


class TestSqlite(metadata_store_conformance.MetadataStoreConformance):
    """The index in SQLite."""

    async def opened(self, folder: Path) -> MetadataStore:
        """Open the folder's index."""
        return await open_sqlite(folder)


class TestMemory(metadata_store_conformance.MetadataStoreConformance):
    """Stores in memory, one for the folder of each test."""

    _stores: ClassVar[defaultdict[Path, MemoryMetadata]] = defaultdict(MemoryMetadata)

    async def opened(self, folder: Path) -> MetadataStore:
        """Return the store that the test has opened before, or a new one."""
        return self._stores[folder]


async def test_rows_that_memory_loses_are_written_again_by_their_sources() -> None:
    store = MemoryMetadata()
    row = BlobRow(ONE, 1, None, NOW)

    def tell() -> tuple[()]:
        store.put_blob(row)
        return ()

    store.when_lost(tell)
    store.lose()
    assert await store.blobs() == [row]
