"""Many clients at once, and few pulls left."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.standin import Fault, Hub, Image, Terms

from .containers import Skopeo
from .dockerd import Docker
from .engines import Engine
from .mirrors import Mirror, mirroring
from .processes import CommandFailed, needs, scratch

APP, OTHER = "library/app", "library/other"


@pytest.fixture
def crowd(port: int) -> Iterator[list[Engine]]:
    """Eight clients: four daemons with separate stores, and four commands."""
    kinds: list[type[Engine]] = [Docker, Docker, Docker, Docker, Skopeo, Skopeo, Skopeo, Skopeo]
    needs(*Docker.programs, *Skopeo.programs)
    with ExitStack() as stack:
        folders = [stack.enter_context(scratch()) for _ in kinds]
        engines = [kind(folder, port) for kind, folder in zip(kinds, folders, strict=True)]
        yield [stack.enter_context(engine) for engine in engines]


async def test_eight_clients_of_a_cold_image_cost_one_pull_and_each_blob_once(
    crowd: list[Engine], hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, APP, "1")
    all_wait = asyncio.Event()
    large = image.layers[1].digest
    hub.faults.add(Fault(kind="blob", reference=large, stall_after=1000, until=all_wait))
    async with asyncio.TaskGroup() as group:
        for engine in crowd:
            group.create_task(engine.pull(APP, "1"))
        await mirror.until(lambda: mirror.metric("mirror_followers") >= len(crowd))
        all_wait.set()
    for engine in crowd:
        assert (await engine.held(APP, "1")).is_same(image)
    assert hub.pulls == 1
    assert [hub.bodies(blob.digest) for blob in image.blobs] == [1, 1, 1, 1]


@pytest.mark.parametrize("engine", ["dockerd"], indirect=True)
async def test_when_the_pull_limit_is_spent_pulled_images_can_still_be_pulled(
    engine: Engine, port: int, image: Image, other: Image
) -> None:
    async with (
        Hub(Terms(limit=1)) as hub,
        mirroring(hub.url, port, "--tag-ttl", "0") as mirror,
    ):
        hub.add(image, APP, "1")
        hub.add(other, OTHER, "1")
        await engine.pull(APP, "1")
        assert mirror.metric('mirror_pull_remaining{account="",upstream="docker.io"}') == 0
        with pytest.raises(CommandFailed):
            await engine.pull(OTHER, "1")
        await engine.forget(APP, "1")
        await engine.pull(APP, "1")
        assert (await engine.held(APP, "1")).is_same(image)
        assert hub.pulls == 1
