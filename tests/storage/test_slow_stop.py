"""A stop on a slow disk: what has not begun is not begun, and what has is waited for."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.storage.errors import is_of_disk
from mirror.storage.files import BlobFiles
from mirror.storage.startup import open_store
from tests.standin import Hub, make_image
from tests.support.command import fetch, serving

WRITERS = 8
LONG = 64 * 1024**3  # bytes: to hash them takes a minute


async def test_work_that_has_not_begun_is_cancelled_with_its_task(tmp_path: Path) -> None:
    store = await open_store(BlobFiles(tmp_path), 8 * 1024**2)
    go, done = threading.Event(), list[int]()

    def work(number: int) -> None:
        go.wait(10)
        done.append(number)

    tasks = [asyncio.create_task(store.run(work, number)) for number in range(48)]
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0)
    assert sum(task.done() for task in tasks) == len(tasks) - WRITERS
    for task in tasks:
        task.cancel()  # once more: those that have begun are waited for all the same
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in tasks[:WRITERS])
    go.set()
    await asyncio.wait(tasks)
    assert sorted(done) == list(range(WRITERS))
    await store.close()


async def test_a_stop_waits_for_what_has_begun_and_begins_nothing_more(tmp_path: Path) -> None:
    store = await open_store(BlobFiles(tmp_path), 8 * 1024**2)
    go, done = threading.Event(), list[int]()

    def work(number: int) -> None:
        go.wait(10)
        done.append(number)

    tasks = [asyncio.create_task(store.run(work, number)) for number in range(48)]
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(store.close())
    await asyncio.wait(tasks[WRITERS:], timeout=5)
    assert all(task.done() for task in tasks[WRITERS:])
    closing.cancel()
    await asyncio.sleep(0.05)
    assert not closing.done()
    go.set()
    with suppress(asyncio.CancelledError):
        await closing
    refused = await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(done) == list(range(WRITERS))
    assert all(isinstance(error, OSError) and not is_of_disk(error) for error in refused[WRITERS:])
    with pytest.raises(OSError, match="the mirror is stopping"):
        await store.run(work, 1)


async def test_a_stop_does_not_wait_for_a_large_file_to_be_hashed(tmp_path: Path) -> None:
    files = BlobFiles(tmp_path)
    files.prepare()
    digest = Digest.of(b"x")
    files.path(digest).parent.mkdir(parents=True)
    files.path(digest).write_bytes(bytes(4 * 1024**2))
    files.halted.set()
    with pytest.raises(OSError, match="stopping"):
        files.prove(digest, 4 * 1024**2)
    files.release()


async def test_a_stop_does_not_wait_for_a_partial_to_be_hashed_anew(
    hub: Hub, tmp_path: Path
) -> None:
    image = make_image(7, [4_000_000])
    hub.add(image, "library/big", "latest")
    digest = image.layers[0].digest
    partial = tmp_path / "data" / "partial" / digest.replace(":", "-")
    await asyncio.to_thread(make_sparse, partial, LONG)
    options = ("--upstream", f"docker.io={hub.url}", "--shutdown-grace", "0", "--max-size", "1TiB")
    async with serving(tmp_path / "data", *options) as command:
        url = f"{await command.address()}/v2/library/big/blobs/{digest}"
        asking = asyncio.create_task(fetch(url))
        await asyncio.to_thread(until_read, command.pid, partial)
        command.send(signal.SIGTERM)
        ended = await command.ended(within=3)
        await asyncio.wait([asking])
    assert isinstance(asking.exception(), OSError)
    assert ended.code == 0
    assert "ERROR" not in ended.err
    assert partial.stat().st_size == LONG  # it is gone on from


def make_sparse(path: Path, size: int) -> None:
    """Make a file of so many zeros."""
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(size)


def until_read(pid: int, path: Path) -> None:
    """Wait until a process is amid reading a file."""
    deadline = time.monotonic() + 10
    while not any(int(line.split()[1]) for line in positions(pid, path)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def positions(pid: int, path: Path) -> list[str]:
    """Return where in a file a process is, by each descriptor."""
    found = list[str]()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if descriptor.readlink() == path:
                found.append(Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text())
    return found


def test_a_stop_does_not_wait_for_a_partial_to_be_copied(tmp_path: Path) -> None:
    files = BlobFiles(tmp_path)
    files.prepare()
    make_sparse(tmp_path / "left/behind", 4 * 1024**2)
    copy = files.partial_apart(Digest.of(b"x"))
    files.halted.set()
    with (tmp_path / "left/behind").open("rb") as left, pytest.raises(OSError, match="stopping"):
        copy.take_in(left, 4 * 1024**2)
    assert copy.written < 4 * 1024**2
    copy.close()
    files.release()
