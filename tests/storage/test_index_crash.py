"""The index after kill -9 at each statement: a migration is whole or repeated, sums are right."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.metadata.rows import BlobRow, ChildRow, LinkRow, TotalRow
from mirror.storage.metadata.sqlite import migrations
from mirror.storage.metadata.sqlite.store import SqliteMetadata, open_sqlite
from tests.storage.test_index_schema import LAYER, MANIFEST, NGINX, text_index
from tests.support.folder import DataFolder

OTHER = Repository("docker.io", "library/other")


class Kills:
    """Copies of the index as a kill would leave it: one for each statement that began."""

    def __init__(self, folder: Path, copies: Path) -> None:
        self._folder = folder
        self._copies = copies
        self.folders: list[Path] = []

    def __call__(self, statement: str) -> None:
        """Copy the index and its log before a statement."""
        del statement
        copy = self._copies / str(len(self.folders))
        copy.mkdir(parents=True)
        for name in ("index.db", "index.db-wal"):
            if (self._folder / name).exists():
                shutil.copy(self._folder / name, copy / name)
        self.folders.append(copy)


@pytest.fixture
def kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kills:
    """The copies of an index in `data`, made on each connection that writes to it."""
    (tmp_path / "data").mkdir()
    kills = Kills(tmp_path / "data", tmp_path / "copies")

    async def traced(connection: aiosqlite.Connection, path: Path) -> None:
        if path.parent == tmp_path / "data":
            await connection.set_trace_callback(kills)
        await migrations.migrate(connection, path)

    monkeypatch.setattr("mirror.storage.metadata.sqlite.database.migrate", traced)
    return kills


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[SqliteMetadata]:
    """Open an index as the next start does."""
    index = await open_sqlite(folder)
    try:
        yield index
    finally:
        await index.close()


async def sound(folder: Path) -> set[Digest]:
    """Open an index that a kill has left; returns its content, after all that must agree."""
    async with opened(folder) as index:
        blobs = await index.blobs()
        kept = {row.digest for row in blobs}
        manifests = sum(row.media_type is not None for row in blobs)
        size = sum(-(-row.size // 4096) * 4096 for row in blobs)
        assert await index.total() == TotalRow(len(blobs), manifests, size)
        for row in await index.links():
            assert row.digest in kept
    assert DataFolder(folder).damaged_indexes() == []
    assert DataFolder(folder).rows("PRAGMA foreign_key_check") == []
    orphans = "SELECT id FROM repository WHERE id NOT IN (SELECT repository FROM link)"
    assert DataFolder(folder).rows(orphans) == []
    return kept


async def test_a_migration_that_is_killed_at_any_statement_loses_no_row(
    tmp_path: Path, kills: Kills
) -> None:
    text_index(tmp_path / "data")
    async with opened(tmp_path / "data"):
        pass
    assert len(kills.folders) > 30
    for folder in kills.folders:
        assert await sound(folder) == {MANIFEST, LAYER}
        async with opened(folder) as index:
            assert set(await index.links()) == {
                LinkRow(digest, NGINX) for digest in (MANIFEST, LAYER)
            }
            assert len(await index.children()) == 2


def _publish(index: SqliteMetadata) -> None:
    for digest, media_type in ((LAYER, None), (MANIFEST, "type")):
        index.put_blob(BlobRow(digest, 5000, media_type, 1, 1))
        index.put_link(LinkRow(digest, NGINX))
    index.put_child(ChildRow(MANIFEST, LAYER))


def _prove(index: SqliteMetadata) -> None:
    index.put_blob(BlobRow(LAYER, 4000, "type", 2, 2))
    index.put_link(LinkRow(LAYER, OTHER))
    index.touch(MANIFEST, 3)


def _evict(index: SqliteMetadata) -> None:
    index.drop(LAYER)


def _publish_again(index: SqliteMetadata) -> None:
    index.drop(MANIFEST)
    index.put_blob(BlobRow(MANIFEST, 1, "type", 1, 1))
    index.put_link(LinkRow(MANIFEST, OTHER))


STEPS: list[tuple[Callable[[SqliteMetadata], None], set[Digest]]] = [
    (_publish, {LAYER, MANIFEST}),
    (_prove, {LAYER, MANIFEST}),
    (_evict, {MANIFEST}),
    (_publish_again, {MANIFEST}),
]


async def test_a_write_that_is_killed_at_any_statement_is_whole_or_not_there(
    tmp_path: Path, kills: Kills
) -> None:
    before: set[Digest] = set()
    async with opened(tmp_path / "data") as index:
        for step, after in STEPS:
            begin = len(kills.folders)
            step(index)
            await index.flush()
            statements = kills.folders[begin:]
            assert len(statements) > 2
            for folder in statements:
                assert await sound(folder) in (before, after)
            before = after
