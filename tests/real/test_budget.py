"""The pull limit for clients: pulled images remain, and a failed pull costs nothing."""

import pytest

from tests.standin import Hub, Image, make_image, make_index

from .containerd import Containerd
from .containers import Skopeo
from .engines import Engine
from .mirrors import Mirror, mirroring
from .processes import CommandFailed
from .rootfs import FOREIGN, NATIVE

APP = "library/app"


async def test_a_tag_that_moves_while_no_pull_is_left_can_still_be_pulled(
    engine: Engine, hub: Hub, port: int, image: Image, other: Image
) -> None:
    hub.terms.limit = 1
    hub.add(image, APP, "1")
    async with mirroring(hub.url, port, "--tag-ttl", "0") as mirror:
        await engine.pull(APP, "1")
        await engine.forget(APP, "1")
        hub.tag(APP, "1", other)
        await engine.pull(APP, "1")
        assert (await engine.held(APP, "1")).is_same(image)
        assert mirror.metric('mirror_pull_gate_shut{account="",upstream="docker.io"}') == 1
    assert hub.count(kind="manifest", status=429) == 0  # no request met the spent limit


async def test_an_image_for_several_platforms_costs_two_pulls(
    engine: Engine, hub: Hub, port: int, image: Image
) -> None:
    hub.terms.limit = 2
    index = make_index([image])
    hub.add(index, APP, "1")
    async with mirroring(hub.url, port) as mirror:
        await engine.pull(APP, "1")
        assert (await engine.held(APP, "1")).is_same(index)
        assert mirror.metric('mirror_pull_remaining{account="",upstream="docker.io"}') == 0
    assert hub.pulls == 2


@pytest.mark.parametrize("engine", ["containerd", "skopeo"], indirect=True)
async def test_a_pull_of_every_platform_spends_a_pull_for_each(
    engine: Containerd | Skopeo, hub: Hub, mirror: Mirror, request: pytest.FixtureRequest
) -> None:
    name = request.node.name
    images = [make_image(name, [1000], architecture=each) for each in (NATIVE, FOREIGN)]
    hub.add(make_index(images), APP, "1")
    await engine.pull_all(APP, "1")
    assert hub.pulls == 3
    await engine.forget(APP, "1")
    await engine.pull_all(APP, "1")
    assert hub.pulls == 3


# podman, buildah and skopeo sleep for Retry-After, and try again.
@pytest.mark.parametrize("engine", ["dockerd", "containerd"], indirect=True)
async def test_an_index_whose_platform_could_not_be_pulled_costs_nothing(
    engine: Engine, hub: Hub, port: int, image: Image
) -> None:
    hub.terms.limit = 1
    hub.add(make_index([image]), APP, "1")
    async with mirroring(hub.url, port):
        with pytest.raises(CommandFailed):
            await engine.pull(APP, "1")
    assert hub.pulls == 0
