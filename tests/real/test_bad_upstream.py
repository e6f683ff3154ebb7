"""The mirror shields clients from an upstream that breaks off, hangs or sends wrong bytes."""

import time

import pytest

from tests.standin import Fault, Hub, Image

from .engines import Engine
from .mirrors import Mirror, mirroring
from .processes import CommandFailed

APP = "library/app"
PART = 500_000  # bytes


def altered(image: Image) -> Fault:
    """Return a fault that changes a byte in the middle of a layer, in every answer."""
    layer = image.layers[1].digest
    return Fault(kind="blob", reference=layer, corrupt_at=PART, times=None)


async def test_an_upstream_that_breaks_off_is_asked_for_the_rest(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, APP, "1")
    layer = image.layers[1]
    hub.faults.add(Fault(kind="blob", reference=layer.digest, cut_after=PART, times=2))
    await engine.pull(APP, "1")
    assert (await engine.held(APP, "1")).is_same(image)
    assert hub.bodies(layer.digest) == 3
    assert hub.blob_bytes(layer.digest) < layer.size + 2 * PART  # a partial was kept


@pytest.mark.parametrize("engine", ["skopeo", "containerd"], indirect=True)
async def test_a_pull_of_altered_content_fails(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, APP, "1")
    hub.faults.add(altered(image))
    with pytest.raises(CommandFailed):
        await engine.pull(APP, "1")


@pytest.mark.parametrize("engine", ["skopeo"], indirect=True)
async def test_once_upstream_is_sound_so_is_the_mirror(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, APP, "1")
    hub.faults.add(altered(image))
    with pytest.raises(CommandFailed):
        await engine.pull(APP, "1")
    hub.faults.clear()
    await engine.pull(APP, "1")
    assert (await engine.held(APP, "1")).is_same(image)
    assert hub.pulls == 1


@pytest.mark.parametrize("engine", ["dockerd"], indirect=True)
async def test_an_upstream_that_hangs_delays_a_known_tag_for_a_bounded_time(
    engine: Engine, hub: Hub, port: int, image: Image
) -> None:
    hub.add(image, APP, "1")
    async with mirroring(hub.url, port, "--tag-ttl", "0", "--stale-after", "1"):
        await engine.pull(APP, "1")
        await engine.forget(APP, "1")
        hub.faults.add(Fault(hang=True, times=None))
        begun = time.monotonic()
        await engine.pull(APP, "1")
        assert time.monotonic() - begun < 10
        assert (await engine.held(APP, "1")).is_same(image)
