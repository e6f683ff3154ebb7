"""A proven blob is not lost again: no stop forgets it, and serving it waits for no slow disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO

import pytest

from mirror.oci.digest import Digest
from mirror.oci.errors import BlobUnknown, Denied, RegistryError, UpstreamUnavailable
from mirror.storage.blobs.files import BlobFiles
from mirror.storage.blobs.partial_file import PartialFile
from tests.content.test_fetches import followed
from tests.standin import Hub, Image, make_image
from tests.support.fetching import fetching
from tests.support.memory_source import MemorySource
from tests.support.mirror import Run

NAME = "library/nginx"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A disk that syncs nothing until this event is set."""
    go, true = threading.Event(), PartialFile._sync

    def late(partial: PartialFile) -> None:
        go.wait(20)
        true(partial)

    monkeypatch.setattr(PartialFile, "_sync", late)
    yield go
    go.set()


async def test_a_stop_forgets_nothing_that_was_just_delivered(
    hub: Hub, run: Run, image: Image, disk: threading.Event
) -> None:
    async with AsyncExitStack() as stack:
        mirror = await stack.enter_async_context(run())
        for blob in image.blobs:
            assert (await mirror.blob(NAME, blob.digest)).body == blob.read()
        stop = asyncio.create_task(stack.pop_all().aclose())
        asyncio.get_running_loop().call_later(0.3, disk.set)
        await stop
    hub.journal.clear()
    async with run() as mirror:
        for blob in image.blobs:
            assert (await mirror.blob(NAME, blob.digest)).cache == "hit"
    assert hub.requests == []


async def test_a_small_blob_is_warm_before_the_disk_has_it(
    hub: Hub, run: Run, disk: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = make_image(51, [70_000 + number for number in range(12)])
    hub.add(many, NAME, "many")
    small, opened = many.blobs[-1] if many.blobs[-1].size < 9000 else many.blobs[0], list[Digest]()
    true = BlobFiles.open

    def counted(files: BlobFiles, digest: Digest) -> IO[bytes]:
        opened.append(digest)
        return true(files, digest)

    monkeypatch.setattr(BlobFiles, "open", counted)
    async with run() as mirror:
        async with asyncio.timeout(5):
            for layer in many.layers:
                assert (await mirror.blob(NAME, layer.digest)).body == layer.read()
            for _ in range(3):
                assert (await mirror.blob(NAME, small.digest)).body == small.read()
        disk.set()
        await mirror.settled()
        got = await mirror.blob(NAME, small.digest)
        assert (got.cache, got.body) == ("hit", small.read())
    assert opened == []


@pytest.mark.parametrize("kind", [BlobUnknown, Denied, UpstreamUnavailable])
async def test_a_failure_is_a_value(tmp_path: Path, kind: type[RegistryError]) -> None:
    """A failure holds no frames, so that no data of the failed fetch stays in memory."""
    source = MemorySource(failure=kind("the source refuses"))
    async with fetching(tmp_path, {"docker.io": source}) as world:
        follower = followed(world)
        with pytest.raises(kind):
            await follower.started()
        for failure in (follower.fetch.failure, follower.refusal):
            assert failure is not None
            bare = failure.__traceback__, failure.__cause__, failure.__context__
            assert bare == (None, None, None)
        follower.leave()
