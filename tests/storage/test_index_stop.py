"""The index at a stop: its time is bounded, and what cost a pull is written first."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.metadata.rows import AccountKey, BlobRow, ChildRow, LinkRow, PullRow
from mirror.storage.metadata.sqlite.store import open_sqlite
from tests.support.folder import DataFolder
from tests.support.waiting import until

MANY = 40_000
MANIFEST, BLOB = Digest.of(b"manifest"), Digest.of(b"blob")
NGINX = Repository("docker.io", "library/nginx")


def found(number: int) -> BlobRow:
    """A row of a file that a start has found."""
    return BlobRow(Digest.of(b"%d" % number), 1, None, number)


def put_pulled(index: MetadataStore) -> None:
    """Queue what a pull has brought: its entry in the ledger, a manifest, and a proven blob."""
    index.add_pull(PullRow(1, 1, AccountKey("docker.io", ""), 1, NGINX.name, "v1", MANIFEST, "me"))
    index.put_blob(BlobRow(MANIFEST, 1, "type", 1, 1))
    index.put_child(ChildRow(MANIFEST, BLOB))
    index.put_blob(BlobRow(BLOB, 1, None, 1, 1))
    for digest in (MANIFEST, BLOB):
        index.put_link(LinkRow(digest, NGINX))


async def test_a_stop_writes_what_cost_a_pull_and_leaves_what_a_start_finds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = await open_sqlite(tmp_path)
    for number in range(MANY):
        index.put_blob(found(number))
    put_pulled(index)
    index.put_link(LinkRow(found(MANY - 1).digest, NGINX))  # with its blob, the last of all
    flushing = asyncio.create_task(index.flush())
    index.hurry(0.2)
    began = time.monotonic()
    await index.close()
    assert time.monotonic() - began < 5
    await flushing
    folder = DataFolder(tmp_path)
    assert (folder.count("pull"), folder.count("link"), folder.count("child")) == (1, 3, 1)
    assert 3 <= folder.count("blob") < MANY
    assert "a start repeats them" in caplog.text


async def test_a_pull_is_written_although_the_time_of_a_stop_is_over(tmp_path: Path) -> None:
    index = await open_sqlite(tmp_path)
    index.hurry(-1)
    put_pulled(index)
    await index.close()
    assert (DataFolder(tmp_path).count("pull"), DataFolder(tmp_path).count("blob")) == (1, 0)


@contextmanager
def locked(folder: Path) -> Iterator[sqlite3.Connection]:
    """Lock the index against writes, as another program may, to the end or until a rollback."""
    with closing(sqlite3.connect(folder / "index.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


async def test_a_stop_waits_for_another_program_that_locks_the_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = await open_sqlite(tmp_path)
    with locked(tmp_path) as other:
        put_pulled(index)
        index.hurry(60)
        closed = asyncio.create_task(index.close())
        await until(lambda: "cannot write to the index" in caplog.text)
        other.execute("ROLLBACK")
        async with asyncio.timeout(10):
            await closed
    folder = DataFolder(tmp_path)
    assert (folder.count("pull"), folder.count("blob"), folder.count("link")) == (1, 2, 2)
    assert "a start repeats them" not in caplog.text


async def test_an_index_that_is_closed_by_a_command_waits_for_a_lock_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = await open_sqlite(tmp_path)
    with locked(tmp_path) as other:
        put_pulled(index)
        closed = asyncio.create_task(index.close())
        await until(lambda: "cannot write to the index" in caplog.text)
        other.execute("ROLLBACK")
        async with asyncio.timeout(10):
            await closed
    assert DataFolder(tmp_path).count("pull") == 1


@pytest.mark.parametrize("left", [-1, 0.2])
async def test_a_stop_waits_for_no_lock_beyond_its_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: float
) -> None:
    index = await open_sqlite(tmp_path)
    with locked(tmp_path):
        put_pulled(index)
        flushing = asyncio.create_task(index.flush())
        await asyncio.sleep(0)
        index.hurry(left)
        began = time.monotonic()
        await index.close()
        assert time.monotonic() - began < 3
    await flushing
    assert "6 rows of the index are not written" in caplog.text


async def test_deletions_come_last_but_before_a_row_of_the_same_digest(tmp_path: Path) -> None:
    index = await open_sqlite(tmp_path)
    for number in range(MANY):
        index.put_blob(found(number))
        index.drop(found(number).digest)
    put_pulled(index)
    await index.flush()
    index.drop(BLOB)
    index.put_blob(BlobRow(BLOB, 2, None, 1))  # found as a file, after the former has left
    index.drop(MANIFEST)
    index.put_blob(BlobRow(MANIFEST, 2, "type", 1, 1))
    index.put_link(LinkRow(MANIFEST, NGINX))
    await index.close()
    folder = DataFolder(tmp_path)
    assert folder.count("blob") == 2
    assert folder.rows("SELECT digest_text(digest) FROM named_link") == [(MANIFEST,)]
    assert folder.count("child") == 0
