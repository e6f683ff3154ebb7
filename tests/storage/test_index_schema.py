"""The schema of the index: migrated with all rows, a bounded log, queries beside writes."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.metadata.protocol import MetadataDamaged
from mirror.storage.metadata.rows import BlobRow, ChildRow, LinkRow, TotalRow, TypeRow
from mirror.storage.metadata.sqlite import migrations
from mirror.storage.metadata.sqlite.database import WAL_BYTES
from mirror.storage.metadata.sqlite.store import open_sqlite
from tests.support.folder import DataFolder

NAME = ("docker.io", "library/nginx")
NGINX = Repository(*NAME)
MANIFEST, LAYER = Digest.of(b"manifest"), Digest.of(b"layer", "sha512")
STRAY = Digest.of(b"stray")


def text_index(folder: Path) -> None:
    """Write an index of the last schema with digests as text: an image, and rows of nothing."""
    with closing(sqlite3.connect(folder / "index.db")) as old:
        old.executescript(f"{';'.join(migrations.scripts()[:10])}; PRAGMA user_version=10;")
        blobs = ((MANIFEST, 10, "type", 7, 99), (LAYER, 5000, None, 5, None), ("x", 1, None, 0, 0))
        old.executemany("INSERT INTO blob VALUES (?, ?, ?, ?, ?)", blobs)
        for digest in (MANIFEST, LAYER, STRAY, "sha256:no digest"):
            old.execute("INSERT INTO link VALUES (?, ?, ?)", (digest, *NAME))
            old.execute("INSERT INTO child VALUES (?, ?)", (digest, LAYER))
            old.execute("INSERT INTO manifest_type VALUES (?, 'ghcr.io', 'other')", (digest,))
        old.execute("INSERT INTO link VALUES (?, 'ghcr.io', 'gone')", (STRAY,))
        old.execute("INSERT INTO child VALUES (?, 'no digest')", (MANIFEST,))
        old.commit()


async def test_an_index_with_digests_as_text_keeps_all_rows_of_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    text_index(tmp_path)
    index = await open_sqlite(tmp_path)
    try:
        blobs = [BlobRow(LAYER, 5000, None, 5, None), BlobRow(MANIFEST, 10, "type", 7, 99)]
        assert list(await index.blobs()) == blobs
        both = {LAYER, MANIFEST}
        assert set(await index.links()) == {LinkRow(digest, NGINX) for digest in both}
        assert set(await index.children()) == {ChildRow(digest, LAYER) for digest in both}
        types = {TypeRow(digest, "ghcr.io", "other") for digest in both}
        assert set(await index.types()) == types
        assert await index.total() == TotalRow(2, 1, 3 * 4096)
    finally:
        await index.close()
    folder = DataFolder(tmp_path)
    assert folder.rows("SELECT upstream, name FROM repository") == [NAME]
    assert folder.rows("PRAGMA freelist_count") == [(0,)]  # room that counts towards the bound
    assert "from schema 10 to 11" in caplog.text


async def test_a_migration_that_fails_leaves_the_older_index_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_index(tmp_path)
    before = DataFolder(tmp_path).rows("SELECT * FROM link")
    cut = [*migrations.scripts()[:10], f"{migrations.scripts()[10]}; SELECT no_such_function();"]
    monkeypatch.setattr(migrations, "scripts", lambda: cut)
    with pytest.raises(Exception, match="no_such_function"):
        await open_sqlite(tmp_path)
    assert DataFolder(tmp_path).rows("SELECT * FROM link") == before
    monkeypatch.undo()
    index = await open_sqlite(tmp_path)
    assert len(await index.blobs()) == 2
    await index.close()


async def test_a_digest_of_no_known_algorithm_is_damage(tmp_path: Path) -> None:
    index = await open_sqlite(tmp_path)
    with DataFolder(tmp_path).database() as other:
        other.execute("INSERT INTO blob (digest, size, used_at) VALUES (x'09aa', 1, 1)")
    with pytest.raises(MetadataDamaged):
        await index.blobs()
    await index.close()


async def test_the_number_of_a_blob_that_left_is_given_to_no_other(tmp_path: Path) -> None:
    """Otherwise a link that was left behind would show the other blob to strangers."""
    index = await open_sqlite(tmp_path)
    numbers = list[object]()
    for digest in (MANIFEST, LAYER):
        index.put_blob(BlobRow(digest, 1, None, 0))
        await index.flush()
        numbers += DataFolder(tmp_path).rows("SELECT id FROM blob")
        index.drop(digest)
        await index.flush()
    await index.close()
    assert len(set(numbers)) == 2


async def test_a_repository_leaves_the_index_with_its_last_link(tmp_path: Path) -> None:
    index = await open_sqlite(tmp_path)
    for digest in (MANIFEST, LAYER):
        index.put_blob(BlobRow(digest, 1, None, 0))
        index.put_link(LinkRow(digest, NGINX))
    index.drop(MANIFEST)
    await index.flush()
    assert DataFolder(tmp_path).count("repository") == 1
    index.drop_link(LinkRow(LAYER, NGINX))
    await index.close()
    assert DataFolder(tmp_path).count("repository") == 0


async def test_a_query_waits_for_no_write(tmp_path: Path) -> None:
    index = await open_sqlite(tmp_path)
    index.put_blob(BlobRow(LAYER, 1, None, 0))
    await index.flush()
    with DataFolder(tmp_path).held():
        index.put_blob(BlobRow(MANIFEST, 1, None, 0))
        flushing = asyncio.create_task(index.flush())
        await asyncio.sleep(0)
        async with asyncio.timeout(3):  # the write waits for five
            assert [row.digest for row in await index.blobs()] == [LAYER]
        assert not flushing.done()
    await flushing
    assert len(await index.blobs()) == 2
    await index.close()


async def test_deletions_keep_the_log_within_what_is_counted_for_it(tmp_path: Path) -> None:
    index = await open_sqlite(tmp_path)
    digests = [Digest.of(b"%d" % number) for number in range(4000)]
    for number, digest in enumerate(digests):
        index.put_blob(BlobRow(digest, number, "type", number))
        for each in range(3):
            index.put_link(LinkRow(digest, Repository("docker.io", f"r{number * each % 89}")))
        index.put_child(ChildRow(digest, digests[number * 7 % 4000]))
    await index.flush()
    log = tmp_path / "index.db-wal"
    spread = sorted(digests)
    for begin in range(0, 2000, 100):
        for digest in spread[begin : begin + 100]:
            index.drop(digest)
        for digest in spread[begin + 2000 : begin + 2100]:
            index.touch(digest, 10_000 + begin)
        await index.flush()
        assert log.stat().st_size <= WAL_BYTES
    await index.close()
