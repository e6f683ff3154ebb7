"""Reloads under load, also of upstreams in use, cut no transfer and leak nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.app import upstreams
from tests.attacks.steps import MOST, steps
from tests.standin import Fault, Hub, Image, make_image
from tests.support.mirror import Mirror
from tests.support.reloading import GHCR, NAME, Changing, manifest, reload
from tests.support.waiting import until


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close a removed upstream as soon as no request uses it."""
    monkeypatch.setattr(upstreams, "QUIET", 0.05)


async def pull(mirror: Mirror, name: str, image: Image, upstream: str) -> None:
    """Pull an image as a client that names the registry; fails unless all of it is right."""
    assert (await manifest(mirror, name, upstream)).body == image.manifest
    for blob in image.blobs:
        got = await mirror.ask(f"/v2/{name}/blobs/{blob.digest}?ns={upstream}")
        assert (got.status, got.body == blob.read()) == (200, True)


async def left() -> None:
    """Wait until all removed upstreams are closed."""
    leaving = [each for each in asyncio.all_tasks() if each.get_name().startswith("leaving ")]
    async with asyncio.timeout(10):
        await asyncio.gather(*leaving)


def descriptors() -> int:
    """Count this process's descriptors."""
    return len([*Path("/proc/self/fd").iterdir()])


@pytest.mark.usefixtures("at_once")
async def test_fifty_pulls_under_reloads_of_all_that_they_go_through_are_whole(
    changing: Changing, hub: Hub, other: Hub
) -> None:
    """Both upstreams are replaced again and again, besides the changes for every request."""
    images = [make_image(100 + number, [100_000, 400_000]) for number in range(50)]
    homes = [(hub, "docker.io") if number % 2 else (other, GHCR) for number in range(50)]
    for number, (image, (home, _)) in enumerate(zip(images, homes, strict=True)):
        home.add(image, f"org/app{number}", "latest")
    changing.upstreams[GHCR] = {"url": other.url}
    chance = random.Random(7)
    async with changing.running() as mirror:
        pulls = [
            asyncio.create_task(pull(mirror, f"org/app{number}", image, upstream))
            for number, (image, (_, upstream)) in enumerate(zip(images, homes, strict=True))
        ]
        reloads = 0
        while not all(task.done() for task in pulls) or reloads < 10:
            reloads += 1
            changing.upstreams[GHCR]["max_rate"] = 10**9 + reloads
            changing.upstreams["docker.io"]["max_connections"] = chance.randint(100, 200)
            changing.upstreams["docker.io"]["pull_limit"] = 1000 + reloads
            changing.keys = {
                "client_rate": 10_000 + reloads,
                "shares": {"*": f"{chance.randint(60, 90)}%"},
                "max_fetches": chance.randint(20, 60),
                "clients": {f"ci{reloads}": {"token": f"a-token-of-a-client-{reloads}"}},
            }
            assert (await reload(mirror)).changed
        await asyncio.gather(*pulls)
        assert reloads >= 10
        for image in images:
            for layer in image.layers:
                assert hub.bodies(layer.digest) + other.bodies(layer.digest) == 1


@pytest.mark.usefixtures("at_once")
async def test_two_hundred_reloads_leave_nothing_behind(
    changing: Changing, hub: Hub, other: Hub, image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "mirror")  # pytest keeps every line

    async def reloaded(times: int) -> None:
        for number in range(times):
            changing.upstreams["docker.io"]["max_rate"] = 10**9 + number % 2
            changing.upstreams.pop(GHCR, None)
            if number % 2:
                changing.upstreams[GHCR] = {"url": other.url, "username": "a", "password": "b"}
            changing.keys["shares"] = {"*": 10 + number % 2}
            await reload(mirror)
            hub.add(make_image(1000 + number % 4, [1000]), NAME, f"tag{number % 4}")
            await mirror.manifest(NAME, f"tag{number % 4}")  # so that there are connections
        await left()
        gc.collect()

    async with changing.running() as mirror:
        await reloaded(10)
        tasks, files = len(asyncio.all_tasks()), descriptors()
        tracemalloc.start()
        try:
            await reloaded(20)
            before, _ = tracemalloc.get_traced_memory()
            await reloaded(180)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # the hub's own ends of connections take a moment
        await until(lambda: len(asyncio.all_tasks()) <= tasks and descriptors() <= files)
        assert after - before < 1_000_000


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("room", ["100MiB", "1MiB"], ids=["kept", "past the disk"])
async def test_an_upstream_that_is_removed_during_a_fetch_sends_all_of_it(
    changing: Changing, other: Hub, room: str
) -> None:
    """A pass-through may ask the upstream once more, after the fetch itself has ended."""
    changing.keys["max_size"] = room
    image, go = make_image(2, [3_000_000]), asyncio.Event()
    layer = image.layers[0]
    other.add(image, "org/app", "latest")
    changing.upstreams[GHCR] = {"url": other.url}
    path = f"/v2/org/app/blobs/{layer.digest}?ns={GHCR}"
    async with changing.running() as mirror:
        await manifest(mirror, "org/app", GHCR)
        for fault in (Fault(cut_after=1_000_000), Fault(stall_after=500_000, until=go)):
            other.faults.add(replace(fault, kind="blob", reference=layer.digest))
        async with mirror.request(path) as response:
            begun = await response.content.readexactly(1000)
            del changing.upstreams[GHCR]
            await reload(mirror)
            assert (await mirror.ask(path)).status == 404
            go.set()
            assert begun + await response.read() == layer.read()
        await left()
        metrics = (await mirror.ask("/metrics")).body.decode()
        assert f'upstream_down{{upstream="{GHCR}"}}' not in metrics
        changing.upstreams[GHCR] = {"url": other.url}
        await reload(mirror)
        if room == "100MiB":
            assert (await mirror.ask(path)).cache == "hit"
            assert other.bodies(layer.digest) == 2  # the second goes on where the first broke


async def test_a_request_that_began_before_its_upstream_was_removed_is_answered(
    changing: Changing, other: Hub
) -> None:
    """The manifest's HEAD comes before the removal, and its GET after it."""
    image, go = make_image(2, [1000]), asyncio.Event()
    other.add(image, "org/app", "latest")
    other.faults.add(Fault(kind="manifest", method="HEAD", hang=True, until=go))
    changing.upstreams[GHCR] = {"url": other.url}
    async with changing.running() as mirror:
        asked = asyncio.create_task(manifest(mirror, "org/app", GHCR))
        await other.seen(lambda seen: seen.kind == "manifest")
        del changing.upstreams[GHCR]
        await reload(mirror)
        go.set()
        assert (await asked).body == image.manifest


@pytest.mark.usefixtures("at_once")
async def test_a_fetch_goes_on_with_its_upstream_after_that_was_replaced(
    changing: Changing, hub: Hub, other: Hub, image: Image
) -> None:
    layer, go = image.layers[-1], asyncio.Event()
    other.add(image, NAME, "latest")
    hub.faults.add(Fault(kind="blob", reference=layer.digest, stall_after=500_000, until=go))
    async with changing.running() as mirror:
        async with mirror.request(f"/v2/{NAME}/blobs/{layer.digest}") as response:
            begun = await response.content.readexactly(1000)
            changing.upstreams["docker.io"]["url"] = other.url
            await reload(mirror)
            joined = asyncio.create_task(mirror.blob(NAME, layer.digest))
            go.set()
            assert begun + await response.read() == layer.read()
            assert (await joined).body == layer.read()
        await left()
    assert (hub.bodies(layer.digest), other.bodies(layer.digest)) == (1, 0)


async def test_a_reload_holds_up_nobody(changing: Changing, other: Hub, image: Image) -> None:
    """Files are read, and certificates loaded, outside the event loop."""
    changing.keys["clients"] = {
        f"ci{number}": {"token": f"a-token-of-a-client-{number}"} for number in range(200)
    }
    async with changing.running() as mirror:
        await reload(mirror)
        changing.upstreams |= {
            f"r{number}.example": {"url": other.url, "allow": ["a/**"]} for number in range(50)
        }
        with steps() as longest:
            await reload(mirror)
        assert longest.seconds < MOST, longest
