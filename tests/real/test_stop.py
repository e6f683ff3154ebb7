"""A mirror ends within its grace on SIGTERM, and at once on SIGKILL."""

import asyncio
import time
from collections.abc import Awaitable

import pytest

from tests.standin import Fault, Hub, Image, make_image

from .engines import Engine
from .mirrors import Mirror, mirroring
from .processes import CommandFailed
from .rootfs import NATIVE

APP = "library/app"
PART = 500_000  # bytes


@pytest.fixture
def image(request: pytest.FixtureRequest) -> Image:
    """An image of one layer, so that a client requests all its blobs at once."""
    return make_image(request.node.name, [3 * PART], architecture=NATIVE)


async def stalled(hub: Hub, image: Image, until: asyncio.Event) -> None:
    """Have upstream stop in the middle of the layer."""
    hub.add(image, APP, "1")
    layer = image.layers[0].digest
    hub.faults.add(Fault(kind="blob", reference=layer, stall_after=PART, until=until))


async def half_way(hub: Hub, image: Image) -> None:
    """Wait until only the rest of the layer is missing."""
    config, layer = image.config.digest, image.layers[0].digest
    await hub.seen(lambda seen: seen.digest == config and seen.finished, within=20)
    await hub.seen(lambda seen: seen.digest == layer and seen.bytes_sent >= PART, within=20)


async def fail(pull: Awaitable[None]) -> None:
    """Check that a pull fails."""
    with pytest.raises(CommandFailed):
        await pull


@pytest.mark.parametrize("engine", ["dockerd", "containerd"], indirect=True)
async def test_a_pull_under_way_is_finished_within_the_grace(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image
) -> None:
    go_on = asyncio.Event()
    await stalled(hub, image, go_on)
    async with asyncio.TaskGroup() as group:
        group.create_task(engine.pull(APP, "1"))
        await half_way(hub, image)
        mirror.terminate()
        await mirror.until(lambda: not mirror.listens)
        go_on.set()
    assert (await engine.held(APP, "1")).is_same(image)
    assert await mirror.ended(within=10) == 0
    assert hub.bodies(image.layers[0].digest) == 1


@pytest.mark.parametrize("engine", ["skopeo"], indirect=True)
async def test_a_pull_that_would_never_end_is_broken_off_after_the_grace(
    engine: Engine, hub: Hub, port: int, image: Image
) -> None:
    await stalled(hub, image, asyncio.Event())
    async with (
        mirroring(hub.url, port, "--shutdown-grace", "1") as mirror,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(fail(engine.pull(APP, "1")))
        await hub.seen(lambda seen: seen.bytes_sent >= PART, within=20)
        begun = time.monotonic()
        mirror.terminate()
        assert await mirror.ended(within=10) == 0
        assert time.monotonic() - begun > 0.9


@pytest.mark.parametrize("engine", ["dockerd"], indirect=True)
async def test_a_mirror_that_was_killed_in_the_middle_costs_docker_a_pause(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image
) -> None:
    layer = image.layers[0]
    await stalled(hub, image, asyncio.Event())
    async with asyncio.TaskGroup() as group:
        group.create_task(engine.pull(APP, "1"))
        await half_way(hub, image)
        await mirror.until(lambda: mirror.largest >= PART)
        mirror.kill()
        mirror.start()
    assert (await engine.held(APP, "1")).is_same(image)
    assert hub.pulls == 1
    assert hub.blob_bytes(layer.digest) < layer.size + PART // 2  # the fetch was resumed
