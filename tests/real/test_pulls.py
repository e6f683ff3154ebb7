"""Every client pulls through the mirror: cold, warm, after a restart, and without upstream."""

import pytest

from tests.standin import Hub, Image

from .engines import Engine
from .mirrors import Mirror, mirroring

APP = "library/app"


async def test_a_cold_pull_costs_one_pull_and_each_blob_once(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, APP, "1")
    await engine.pull(APP, "1")
    assert (await engine.held(APP, "1")).is_same(image)
    assert hub.pulls == 1
    assert [hub.bodies(blob.digest) for blob in image.blobs] == [1, 1, 1, 1]


async def test_a_warm_pull_asks_upstream_nothing(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, APP, "1")
    await engine.pull(APP, "1")
    await engine.forget(APP, "1")
    hub.journal.clear()
    await engine.pull(APP, "1")
    assert (await engine.held(APP, "1")).is_same(image)
    assert not hub.requests


async def test_a_restarted_mirror_fetches_nothing_again(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, APP, "1")
    await engine.pull(APP, "1")
    await engine.forget(APP, "1")
    await mirror.restart()
    hub.journal.clear()
    await engine.pull(APP, "1")
    assert (await engine.held(APP, "1")).is_same(image)
    assert hub.pulls == 0
    assert hub.count(kind="blob") == 0


@pytest.mark.parametrize("tag_ttl", ["60", "0"], ids=["fresh", "stale"])
async def test_without_upstream_a_pulled_image_is_still_complete(
    engine: Engine, hub: Hub, port: int, image: Image, tag_ttl: str
) -> None:
    hub.add(image, APP, "1")
    async with mirroring(hub.url, port, "--tag-ttl", tag_ttl) as mirror:
        await engine.pull(APP, "1")
        await engine.forget(APP, "1")
        await hub.down()
        await engine.pull(APP, "1")
        assert (await engine.held(APP, "1")).is_same(image)
        await engine.forget(APP, "1")
        await mirror.restart()
        await engine.pull(APP, "1")
        assert (await engine.held(APP, "1")).is_same(image)
