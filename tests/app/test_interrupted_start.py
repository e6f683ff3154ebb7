"""An interrupted start ends soon and in order, and the next start carries on."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import types
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mirror.oci.digest import Digest
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.metadata.sqlite import migrations
from mirror.storage.metadata.sqlite.store import open_sqlite
from mirror.storage.startup import open_store
from tests.support.command import NOBODY, serving, until_there
from tests.support.folder import DataFolder

T = TypeVar("T")
MEBIBYTE = 1024 * 1024
MANY = 100_000
# A script of the schema that never ends.
ENDLESS = """CREATE TABLE endless AS WITH RECURSIVE counter (number) AS
    (SELECT 1 UNION ALL SELECT number + 1 FROM counter) SELECT number FROM counter
    WHERE number < 0"""


@types.coroutine
def cancelled_in(wait: int, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run work, and cancel it at the end of its wait of this number, counted from 0."""
    steps = work.__await__()
    try:
        awaited = next(steps)
        for number in itertools.count():
            yield awaited
            awaited = steps.throw(asyncio.CancelledError) if number == wait else next(steps)
    except StopIteration as done:
        found: T = done.value
        return found
    raise AssertionError


async def test_an_interrupted_start_leaves_nothing_that_keeps_the_process(
    tmp_path: Path,
) -> None:
    threads = set(threading.enumerate())
    for wait in itertools.count():
        try:
            store = await cancelled_in(
                wait, open_store(tmp_path, 8 * 1024**2, open_filesystem, open_sqlite)
            )
        except asyncio.CancelledError:
            for thread in set(threading.enumerate()) - threads:
                if "connection" in thread.name:  # threads of the pool do not count
                    await asyncio.to_thread(thread.join, 5)
                    assert not thread.is_alive(), f"cancelled in wait {wait}"
        else:
            await store.close()
            break
    assert wait > 10


async def make_index(folder: Path) -> None:
    """Make an index of a pull, and of many blobs without files: it takes a second to read.

    The removal of these blobs takes some more time.
    """
    await asyncio.to_thread(folder.mkdir)
    index = await open_sqlite(folder)
    await index.close()
    digests = [str(Digest.of(str(number).encode())) for number in range(MANY)]
    with DataFolder(folder).database() as database:
        database.executemany(
            "INSERT INTO blob (digest, size, used_at) VALUES (digest_bytes(?), 1, 1)", zip(digests)
        )
        database.execute("INSERT INTO repository VALUES (1, 'docker.io', 'a/b')")
        database.execute("INSERT INTO link SELECT id, 1 FROM blob")
        database.execute(
            "INSERT INTO pull (upstream, account, at, repository, reference, digest, client) "
            "VALUES ('docker.io', '', 1, 'a/b', 'c', 'd', 'e')"
        )


def counts(folder: Path) -> tuple[int, int, int]:
    """Count the blobs, links and pulls of an index."""
    count = DataFolder(folder).count
    return count("blob"), count("link"), count("pull")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_start_and_the_next_one_carries_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "data"
    await make_index(folder)
    async with serving(folder, "--upstream", NOBODY) as command:
        await asyncio.to_thread(until_there, folder / "lock")
        command.send(number)
        ended = await command.ended(within=5)
    assert ended.code == 0
    assert "listens on" not in ended.out
    assert "Traceback" not in ended.err
    assert "ERROR" not in ended.err
    assert counts(folder) == (MANY, MANY, 1)
    async with serving(folder, "--upstream", NOBODY) as command:
        await command.address(within=30)
        assert "damaged" not in command.err
        assert "0 files are stored" in command.err
        command.send(number)  # with the removal of all rows still to be written
        ended = await command.ended(within=10)
    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert counts(folder)[2] == 1


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_a_start_that_brings_the_index_up_to_date_can_be_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    index = await open_sqlite(tmp_path)
    await index.close()
    scripts, begun = migrations.scripts(), asyncio.Event()

    def with_one_more() -> list[str]:
        begun.set()
        return [*scripts, ENDLESS]

    monkeypatch.setattr(migrations, "scripts", with_one_more)
    start = asyncio.create_task(open_store(tmp_path, 8 * MEBIBYTE, open_filesystem, open_sqlite))
    await begun.wait()
    for _ in range(turns):  # SQLite is about to begin, or amid it
        await asyncio.sleep(0.02)
    start.cancel()
    done, _ = await asyncio.wait([start], timeout=5)
    assert done
    assert start.cancelled()
    with DataFolder(tmp_path).database() as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert not database.execute("SELECT * FROM sqlite_master WHERE name = 'endless'").fetchall()


async def test_a_folder_that_is_looked_through_can_be_left_in_the_midst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go = threading.Event(), threading.Event()
    for shard in ("aa", "bb"):
        (tmp_path / "blobs/sha256" / shard).mkdir(parents=True)
    looked = list[str]()
    monkeypatch.setattr("mirror.storage.blobs.files._scan", noting(looked, began, go))
    start = asyncio.create_task(open_store(tmp_path, 8 * MEBIBYTE, open_filesystem, open_sqlite))
    await asyncio.to_thread(began.wait, 5)
    start.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not start.done()  # the lock is held for as long as a thread looks
    go.set()
    done, _ = await asyncio.wait([start], timeout=5)
    assert done
    assert len(looked) == 1
    store = await open_store(tmp_path, 8 * MEBIBYTE, open_filesystem, open_sqlite)
    await store.close()


def noting(
    looked: list[str], began: threading.Event, go: threading.Event
) -> Callable[[str, object], list[object]]:
    """Return a function that notes a folder and waits, instead of listing it."""

    def scan(folder: str, _: object) -> list[object]:
        looked.append(folder)
        began.set()
        go.wait(5)
        return []

    return scan
