"""Fetches: an upstream that drips holds no place for ever, and never the places of the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mirror.access.publicity import Publicity
from mirror.app.builders import closed
from mirror.app.upstreams import UpstreamPlans, Upstreams
from mirror.budget.budget import Budget
from mirror.budget.ledger import Ledger
from mirror.content.blobs.fetch import Fetch
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.content.blobs.possession import Possession
from mirror.content.memory_cache import MemoryCache
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.settings import load
from mirror.storage.files import BlobFiles
from mirror.storage.startup import open_store
from mirror.upstream.client import RegistryClient
from tests.standin import Blob, Fault, Hub, make_image
from tests.support.mirror import Run

APP, SIZE = Repository("docker.io", "org/app"), 200_000


@pytest.fixture
def layer(hub: Hub) -> Blob:
    """A layer that is so small that all of it is little to be left."""
    image = make_image(21, [SIZE])
    hub.add(image, APP.name, "latest")
    return image.layers[0]


@asynccontextmanager
async def fetching(
    hub: Hub, folder: Path, reprieve: float
) -> AsyncIterator[tuple[FetchPool, RegistryClient]]:
    """Fetch from the hub; one that nobody follows has these seconds if little is left of it."""
    async with AsyncExitStack() as stack:
        settings = load({"upstreams": {"docker.io": {"url": hub.url}}})
        store = closed(stack, await open_store(BlobFiles(folder), 10**8))
        publicity = Publicity([], store.index, store.catalog.holds)
        budget = Budget(Ledger(store.index, 0), {})
        upstreams = closed(stack, Upstreams(lambda _: None, publicity, budget))
        plans = UpstreamPlans(settings)
        upstreams.commit(plans, await upstreams.prepare(plans))
        registries = upstreams.registries
        possession = closed(stack, Possession(store, bytes(32)))
        fetches = closed(
            stack, FetchPool(registries, store, possession, MemoryCache(10**6), 0, 2, reprieve)
        )
        yield fetches, registries["docker.io"]


def joined(fetches: FetchPool, registry: RegistryClient, layer: Blob) -> Fetch:
    """Follow a layer."""
    fetch = fetches.join(registry, APP, Digest(layer.digest))
    assert fetch is not None
    return fetch


async def left_alone(hub: Hub, fetches: FetchPool, registry: RegistryClient, layer: Blob) -> None:
    """Have a fetch begin whose only follower leaves."""
    fetch = joined(fetches, registry, layer)
    await fetch.started(APP)
    await fetch.past(0)
    fetches.leave(fetch, APP)


async def ended(fetches: FetchPool) -> None:
    """Wait until nothing runs."""
    async with asyncio.timeout(5):
        while len(fetches):
            await asyncio.to_thread(len, fetches)


async def test_what_drips_for_nobody_ends_and_leaves_what_it_has(
    hub: Hub, tmp_path: Path, layer: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2))
    async with fetching(hub, tmp_path, reprieve=0.01) as (fetches, registry):
        await left_alone(hub, fetches, registry, layer)
        await ended(fetches)
        again = joined(fetches, registry, layer)
        await again.past(layer.size - 1)
        fetches.leave(again, APP)
    assert hub.blob_bytes(layer.digest) <= 1.1 * SIZE


async def test_what_is_nearly_done_is_ended_for_nobody(
    hub: Hub, tmp_path: Path, layer: Blob
) -> None:
    go = asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2, until=go))
    async with fetching(hub, tmp_path, reprieve=60) as (fetches, registry):
        await left_alone(hub, fetches, registry, layer)
        await asyncio.sleep(0.05)  # its grace is over
        assert len(fetches) == 1
        go.set()
        await ended(fetches)
        warm = joined(fetches, registry, layer)
        fetches.leave(warm, APP)
    assert hub.bodies(layer.digest) == 1


async def test_who_comes_back_and_leaves_again_gives_it_as_long_again(
    hub: Hub, tmp_path: Path, layer: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2))
    async with fetching(hub, tmp_path, reprieve=0.2) as (fetches, registry):
        await left_alone(hub, fetches, registry, layer)
        await asyncio.sleep(0.05)
        fetch = joined(fetches, registry, layer)
        await asyncio.sleep(0.3)
        assert len(fetches) == 1
        fetches.leave(fetch, APP)
        await ended(fetches)


async def test_a_fetch_whose_file_is_closed_lets_nobody_in(
    hub: Hub, tmp_path: Path, layer: Blob
) -> None:
    async with fetching(hub, tmp_path, reprieve=60) as (fetches, registry), asyncio.timeout(10):
        fetch = joined(fetches, registry, layer)
        await fetch.past(layer.size - 1)
        fetches.leave(fetch, APP)
        while not fetch.ended:  # noqa: ASYNC110 - one step of the loop later it is off the books
            await asyncio.sleep(0)
        assert len(fetches) == 1
        assert fetches.running(APP.upstream, fetch.digest) is None
        assert fetches.join(registry, APP, fetch.digest, layer.size) is None
        await fetches.others_over(APP, fetch.digest)
        assert len(fetches) == 0


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
    """What stays on the books as nobody's is unlinked by the next eviction, under the fetch."""
    left = tmp_path / "data" / "partial" / layer.digest.replace(":", "-")
    left.parent.mkdir(mode=0o700, parents=True)
    left.touch(mode=0o600)
    hub.faults.add(Fault(kind="blob", stall_after=layer.size // 2, until=(go := asyncio.Event())))
    path = f"/v2/{APP.name}/blobs/{layer.digest}"
    async with run() as mirror, mirror.request(path) as response:
        body = await response.content.readexactly(layer.size // 4)
        store = mirror.daemon.store
        await store.quota.remove_partials(list(store.accounting.idle_partials))
        go.set()
        assert body + await response.read() == layer.read()
        await mirror.settled()
        assert not store.accounting.idle_partials
        assert store.catalog.get(Digest(layer.digest)) is not None


async def test_a_file_that_is_being_unlinked_is_no_beginning(
    hub: Hub, run: Run, tmp_path: Path, layer: Blob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection takes the partial while a fetch asks upstream, on a disk that is slow."""
    left = tmp_path / "data" / "partial" / layer.digest.replace(":", "-")
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
        store = mirror.daemon.store
        collected = asyncio.create_task(store.quota.remove_partials([Digest(layer.digest)]))
        assert await asyncio.to_thread(begun.wait, 10)
        asked = asyncio.create_task(mirror.blob(APP.name, layer.digest))
        await hub.seen(lambda seen: seen.port == "cdn", 1)
        asyncio.get_running_loop().call_later(0.2, go.set)
        assert (await asked).body == layer.read()
        await collected
        await mirror.settled()
        assert store.catalog.get(Digest(layer.digest)) is not None
    assert hub.bodies(layer.digest) == 1
