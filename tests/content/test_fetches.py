"""Fetches: a dripping upstream holds a place for a bounded time, and no place of the others."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from mirror.content.blobs.fetch_pool import OtherFetch
from mirror.content.blobs.followers import Follower
from mirror.content.outcome import Outcome
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.blobs.files import BlobFiles
from tests.standin import Blob, Fault, Hub, make_image
from tests.support.fetching import Fetching, fetching
from tests.support.folder import DataFolder
from tests.support.memory_source import Gate, MemorySource
from tests.support.mirror import Run

APP, ALSO = Repository("docker.io", "org/app"), Repository("docker.io", "org/also")
SIZE = 200_000
CONTENT = random.Random(21).randbytes(SIZE)
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def layer(hub: Hub) -> Blob:
    """A layer so small that the rest of it is never worth abandoning."""
    image = make_image(21, [SIZE])
    hub.add(image, APP.name, "latest")
    return image.layers[0]


@pytest.fixture
def source() -> MemorySource:
    """A source with the blob in two repositories; it stops halfway until its gate opens."""
    source = MemorySource(gate=Gate(SIZE // 2))
    source.add(APP.name, CONTENT)
    source.add(ALSO.name, CONTENT)
    return source


def followed(
    world: Fetching,
    repository: Repository = APP,
    proof: int | None = None,
    digest: Digest = DIGEST,
) -> Follower:
    """Follow the fetch of the blob."""
    follower = world.fetches.attach(repository, digest, proof)
    assert isinstance(follower, Follower)
    return follower


async def left_alone(world: Fetching) -> None:
    """Begin a fetch, and have its only follower leave."""
    follower = followed(world)
    await follower.started()
    await follower.fetch.past(0)
    follower.leave()


async def test_a_second_request_follows_the_first_ones_fetch(
    tmp_path: Path, source: MemorySource
) -> None:
    async with fetching(tmp_path, {"docker.io": source}) as world:
        first, second = followed(world), followed(world)
        assert second.fetch is first.fetch
        assert (first.joined, second.joined) == (False, True)
        assert [each.outcome for each in (first, second)] == [Outcome.MISS, Outcome.MISS]
        assert (first.collapsed, second.collapsed) == (False, True)
        first.leave()
        second.leave()
    assert len(source.opened) <= 1


async def test_a_request_for_another_repository_follows_with_a_proof_of_the_size(
    tmp_path: Path, source: MemorySource
) -> None:
    async with fetching(tmp_path, {"docker.io": source}) as world:
        first = followed(world)
        await first.started()
        assert world.fetches.attach(ALSO, DIGEST) == OtherFetch(needs_proof=True, size=SIZE)
        assert world.fetches.attach(ALSO, DIGEST, SIZE + 1) == OtherFetch(
            needs_proof=False, size=SIZE
        )
        assert world.fetches.size(ALSO, DIGEST) is None
        second = followed(world, ALSO, SIZE)
        assert world.fetches.size(ALSO, DIGEST) == SIZE
        assert second.fetch is first.fetch
        first.leave()
        second.leave()


async def test_a_fetch_of_another_upstream_is_not_followed(
    tmp_path: Path, source: MemorySource
) -> None:
    other = MemorySource()
    other.add(APP.name, CONTENT)
    sources = {"docker.io": source, "other.example": other}
    async with fetching(tmp_path, sources) as world:
        first = followed(world)
        await first.started()
        second = followed(world, Repository("other.example", APP.name))
        assert second.fetch is not first.fetch
        await second.fetch.past(SIZE - 1)  # the first fetch is still waiting for its source
        first.leave()
        second.leave()


async def test_a_drip_without_followers_ends_and_leaves_its_partial(
    tmp_path: Path, source: MemorySource
) -> None:
    async with fetching(tmp_path, {"docker.io": source}, reprieve=0.01) as world:
        await left_alone(world)
        await world.ended()
        source.gate = None
        again = followed(world)
        await again.fetch.past(SIZE - 1)
        again.leave()
    assert [each.start for each in source.opened] == [0, SIZE // 2]


async def test_a_nearly_complete_fetch_completes_without_followers(
    tmp_path: Path, source: MemorySource
) -> None:
    assert source.gate is not None
    async with fetching(tmp_path, {"docker.io": source}) as world:
        await left_alone(world)
        await asyncio.sleep(0.05)  # the grace for a fetch without followers is over
        assert len(world.fetches) == 1
        source.gate.open.set()
        await world.ended()
        followed(world).leave()
    assert len(source.opened) == 1


async def test_a_follower_that_returns_and_leaves_renews_the_grace(
    tmp_path: Path, source: MemorySource
) -> None:
    async with fetching(tmp_path, {"docker.io": source}, reprieve=0.2) as world:
        await left_alone(world)
        await asyncio.sleep(0.05)
        follower = followed(world)
        await asyncio.sleep(0.3)
        assert len(world.fetches) == 1
        follower.leave()
        await world.ended()


async def test_a_fetch_whose_file_is_closed_takes_no_follower(
    tmp_path: Path, source: MemorySource
) -> None:
    source.gate = None
    async with fetching(tmp_path, {"docker.io": source}) as world:
        follower = followed(world)
        await follower.fetch.past(SIZE - 1)
        follower.leave()
        while not follower.fetch.ended:  # noqa: ASYNC110 - off the books a step later
            await asyncio.sleep(0)
        assert len(world.fetches) == 1
        assert world.fetches.size(APP, DIGEST) is None
        assert world.fetches.attach(APP, DIGEST, SIZE) == OtherFetch(needs_proof=False)
        await world.fetches.others_over(APP, DIGEST)
        assert len(world.fetches) == 0


@pytest.mark.parametrize(("most", "share"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6)])
async def test_an_upstream_that_hangs_leaves_places_to_the_others(
    hub: Hub, run: Run, layer: Blob, most: int, share: int
) -> None:
    go = asyncio.Event()
    slow = make_image(22, [70_000 + number for number in range(most + 1)])
    async with Hub() as other:
        other.add(slow, "a/b", "latest")
        other.faults.add(Fault(kind="blob", stall_after=30_000, until=go, times=None))
        upstreams = {"docker.io": {"url": hub.url}, "slow.example": {"url": other.url}}
        async with run(upstreams=upstreams, max_fetches=most) as mirror:
            asked = [
                asyncio.create_task(mirror.blob("slow.example/a/b", each.digest))
                for each in slow.layers
            ]
            await other.seen(lambda seen: seen.port == "cdn", share)
            if most > 1:
                assert (await mirror.blob(APP.name, layer.digest)).body == layer.read()
            assert other.count(port="cdn") == share
            go.set()
            got = await asyncio.gather(*asked)
    assert [each.body for each in got] == [each.read() for each in slow.layers]


async def test_an_only_upstream_has_all_the_places(hub: Hub, run: Run) -> None:
    go = asyncio.Event()
    image = make_image(23, [70_000 + number for number in range(4)])
    hub.add(image, APP.name, "latest")
    hub.faults.add(Fault(kind="blob", stall_after=30_000, until=go, times=None))
    async with run(max_fetches=4) as mirror:
        asked = [asyncio.create_task(mirror.blob(APP.name, each.digest)) for each in image.layers]
        await hub.seen(lambda seen: seen.port == "cdn", 4)
        go.set()
        await asyncio.gather(*asked)


async def test_an_empty_file_that_a_crash_left_is_taken_up_by_the_next_fetch(
    hub: Hub, run: Run, tmp_path: Path, layer: Blob
) -> None:
    """An eviction would unlink a partial without an owner under the fetch that writes it."""
    left = DataFolder(tmp_path / "data").partial(layer.digest)
    left.parent.mkdir(mode=0o700, parents=True)
    left.touch(mode=0o600)
    hub.faults.add(Fault(kind="blob", stall_after=layer.size // 2, until=(go := asyncio.Event())))
    path = f"/v2/{APP.name}/blobs/{layer.digest}"
    async with run() as mirror, mirror.request(path) as response:
        body = await response.content.readexactly(layer.size // 4)
        await mirror.stored.remove_partials(*mirror.stored.unfinished)
        go.set()
        assert body + await response.read() == layer.read()
        await mirror.settled()
        assert not mirror.stored.unfinished
        assert mirror.stored.has(layer.digest)


async def test_a_file_that_is_being_unlinked_is_no_beginning(
    hub: Hub, run: Run, tmp_path: Path, layer: Blob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection unlinks the partial slowly, while a fetch asks upstream."""
    left = DataFolder(tmp_path / "data").partial(layer.digest)
    left.parent.mkdir(mode=0o700, parents=True)
    left.write_bytes(layer.read()[: layer.size // 2])
    left.chmod(0o600)
    begun, go, unlink = threading.Event(), threading.Event(), BlobFiles.remove_partials

    def late(files: BlobFiles, digests: Iterable[Digest]) -> dict[Digest, OSError]:
        begun.set()
        go.wait(10)
        return unlink(files, digests)

    monkeypatch.setattr(BlobFiles, "remove_partials", late)
    async with run() as mirror:
        collected = asyncio.create_task(mirror.stored.remove_partials(layer.digest))
        assert await asyncio.to_thread(begun.wait, 10)
        asked = asyncio.create_task(mirror.blob(APP.name, layer.digest))
        await hub.seen(lambda seen: seen.port == "cdn", 1)
        asyncio.get_running_loop().call_later(0.2, go.set)
        assert (await asked).body == layer.read()
        await collected
        await mirror.settled()
        assert mirror.stored.has(layer.digest)
    assert hub.bodies(layer.digest) == 1
