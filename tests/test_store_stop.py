"""A stop on a slow disk: what has not begun is not begun, and what has is waited for."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.store.errors import is_of_disk
from mirror.store.files import Files
from mirror.store.recovery import open_store

WRITERS = 8


async def test_work_that_has_not_begun_is_cancelled_with_its_task(tmp_path: Path) -> None:
    store = await open_store(Files(tmp_path), 8 * 1024**2)
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
    store = await open_store(Files(tmp_path), 8 * 1024**2)
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
    with pytest.raises(OSError, match="the mirror stops"):
        await store.run(work, 1)


async def test_a_stop_does_not_wait_for_a_large_file_to_be_hashed(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.prepare()
    digest = Digest.of(b"x")
    files.path(digest).parent.mkdir(parents=True)
    files.path(digest).write_bytes(bytes(4 * 1024**2))
    files.halted.set()
    with pytest.raises(OSError, match="stops"):
        files.prove(digest, 4 * 1024**2)
    files.release()
