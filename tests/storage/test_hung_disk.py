"""A disk that does not answer, as a network mount without its server: the rest goes on."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.standin import Hub, make_image
from tests.support.mirror import Mirror, Run
from tests.support.waiting import until


class Hung:
    """A call of the file system that returns after `go`, or at the end of the test."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.threads: list[threading.Thread] = []
        self._call = call

    def __call__(self, *args: object) -> Any:  # noqa: ANN401 - the result of any call
        """Wait for `go`, then make the call."""
        self.threads.append(threading.current_thread())
        self.begun.set()
        self.go.wait(10)
        return self._call(*args)


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Hung]]:
    """Make a function of `os` wait."""
    hung: list[Hung] = []

    def one(name: str) -> Hung:
        hung.append(Hung(getattr(os, name)))
        monkeypatch.setattr(os, name, hung[-1])
        return hung[-1]

    yield one
    for each in hung:
        each.go.set()


async def test_a_disk_that_does_not_answer_is_told_of_in_time_and_holds_nothing(
    mirror: Mirror, hang: Callable[[str], Hung]
) -> None:
    access = hang("access")
    root = mirror.folder.path
    async with asyncio.timeout(5):
        unready = await asyncio.gather(*(mirror.ask("/readyz") for _ in range(20)))
        assert {got.status for got in unready} == {503}
        assert {got.body for got in unready} == {f"{root} does not answer\n".encode()}
        assert (await mirror.ask("/healthz")).status == 200
    assert threading.main_thread() not in access.threads
    assert len(access.threads) == 1  # one look for all requests: each does not cost a thread
    access.go.set()
    await until(lambda: is_ready(mirror))


async def is_ready(mirror: Mirror) -> bool:
    """Whether the mirror is ready again."""
    return (await mirror.ask("/readyz")).status != 503


async def test_a_file_is_looked_at_beside_the_loop(
    hub: Hub, run: Run, hang: Callable[[str], Hung]
) -> None:
    image = make_image(7, [3_000_000])
    hub.add(image, "library/big", "latest")
    [layer] = image.layers
    async with run() as mirror:
        await mirror.pull("library/big", "latest", image)
        fstat = hang("fstat")
        asking = asyncio.create_task(mirror.blob("library/big", layer.digest))
        await asyncio.to_thread(fstat.begun.wait, 5)
        assert threading.main_thread() not in fstat.threads
        assert (await mirror.ask("/healthz")).status == 200
        assert not asking.done()
        fstat.go.set()
        assert (await asking).body == layer.read()
    assert threading.main_thread() not in fstat.threads
