"""A stop on a slow disk cancels work that has not begun, and waits for work that has."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.storage.blobs.files import BlobFiles
from mirror.storage.blobs.filesystem import FilesystemBlobs, open_filesystem
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.errors import Stopping
from mirror.storage.startup import open_store
from tests.standin import Hub, make_image
from tests.support.command import fetch, serving
from tests.support.memory_metadata import open_memory

WRITERS = 8
LONG = 64 * 1024**3  # bytes, which take a minute to hash


async def test_work_that_has_not_begun_is_cancelled_with_its_task(tmp_path: Path) -> None:
    store = await open_store(tmp_path, 8 * 1024**2, open_filesystem, open_memory)
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
        task.cancel()  # once more: work that has begun is awaited all the same
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in tasks[:WRITERS])
    go.set()
    await asyncio.wait(tasks)
    assert sorted(done) == list(range(WRITERS))
    await store.close()


async def test_a_stop_waits_for_what_has_begun_and_begins_nothing_more(tmp_path: Path) -> None:
    store = await open_store(tmp_path, 8 * 1024**2, open_filesystem, open_memory)
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
    assert all(isinstance(error, Stopping) for error in refused[WRITERS:])
    with pytest.raises(Stopping, match="the mirror is stopping"):
        await store.run(work, 1)


async def test_a_stop_does_not_wait_for_a_large_file_to_be_hashed(tmp_path: Path) -> None:
    halted = threading.Event()
    files, digest = BlobFiles(tmp_path, halted), Digest.of(b"x")
    files.path(digest).parent.mkdir(parents=True)
    files.path(digest).write_bytes(bytes(4 * 1024**2))
    halted.set()
    with pytest.raises(Stopping):
        files.prove(digest, 4 * 1024**2)


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
    assert partial.stat().st_size == LONG  # the partial can be resumed


def make_sparse(path: Path, size: int) -> None:
    """Make a file of this many zeros."""
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(size)


def until_read(pid: int, path: Path) -> None:
    """Wait until a process is in the middle of reading a file."""
    deadline = time.monotonic() + 10
    while not any(int(line.split()[1]) for line in positions(pid, path)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def positions(pid: int, path: Path) -> list[str]:
    """Return a process's positions in a file, one for each descriptor."""
    found = list[str]()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if descriptor.readlink() == path:
                found.append(Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text())
    return found


async def test_a_stop_does_not_wait_for_a_partial_to_be_copied(tmp_path: Path) -> None:
    threads, size = DiskThreads(threading.Event()), 4 * 1024**2
    (tmp_path / "partial").mkdir()
    blobs = FilesystemBlobs(BlobFiles(tmp_path, threads.halted), threads)
    left = await blobs.partial(Digest.of(b"y"))
    await left.append([bytes(size)])
    copy = await blobs.partial(Digest.of(b"x"), isolated=True)
    threads.halted.set()
    with pytest.raises(Stopping):
        await copy.copy(left.reader, size)
    assert copy.written < size
    for partial in (left, copy):
        partial.close()
    await threads.close()
