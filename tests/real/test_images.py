"""Clients get images of every form through the mirror, as the hub has them."""

import pytest

from tests.standin import Hub, Image, make_image, make_index
from tests.standin.images import Flavour

from .dockerd import Docker
from .engines import Engine, Runner
from .mirrors import Mirror
from .rootfs import FOREIGN, GREETING, NATIVE, PROGRAM

APP = "library/app"
RUNNERS = ["dockerd", "containerd", "podman", "buildah"]


@pytest.mark.parametrize("engine", RUNNERS, indirect=True)
async def test_a_pulled_image_runs(
    engine: Runner, hub: Hub, mirror: Mirror, image: Image, request: pytest.FixtureRequest
) -> None:
    hub.add(image, APP, "1")
    await engine.pull(APP, "1")
    printed = await engine.output(APP, "1", PROGRAM, GREETING)
    assert printed.strip() == request.node.name


@pytest.mark.parametrize("engine", ["dockerd"], indirect=True)
async def test_the_base_image_of_a_build_is_pulled_through_the_mirror(
    engine: Docker, hub: Hub, mirror: Mirror, image: Image, request: pytest.FixtureRequest
) -> None:
    hub.add(image, APP, "1")
    await engine.build(APP, "1", "built:1")
    assert (await engine.output("built", "1")).strip() == request.node.name
    assert hub.pulls == 1
    assert [hub.bodies(blob.digest) for blob in image.blobs] == [1, 1, 1, 1]


@pytest.mark.parametrize("media", ["oci", "docker"])
async def test_each_architecture_of_an_index_is_fetched_on_request(
    engine: Engine, hub: Hub, mirror: Mirror, media: Flavour, request: pytest.FixtureRequest
) -> None:
    name = request.node.name
    native = make_image(name, [500_000, 1000], media, architecture=NATIVE)
    foreign = make_image(name, [500_000, 1000], media, architecture=FOREIGN)
    index = make_index([native, foreign], media)
    hub.add(index, APP, "1")
    await engine.pull(APP, "1")
    assert (await engine.held(APP, "1")).is_same(index)
    assert hub.pulls == 2  # the index and one image
    assert [hub.bodies(blob.digest) for blob in foreign.blobs] == [0, 0, 0]

    await engine.forget(APP, "1")
    await engine.pull(APP, "1", FOREIGN)
    assert (await engine.held(APP, "1", FOREIGN)).is_same(index, FOREIGN)
    assert hub.pulls == 3
    assert [hub.bodies(blob.digest) for blob in (*native.blobs, *foreign.blobs)] == [1] * 6


async def test_an_image_can_be_pulled_by_its_digest(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, APP)
    await engine.pull(APP, image.digest)
    assert (await engine.held(APP, image.digest)).is_same(image)
    assert hub.pulls == 1
    await engine.forget(APP, image.digest)
    await hub.down()
    await engine.pull(APP, image.digest)
    assert (await engine.held(APP, image.digest)).is_same(image)


@pytest.mark.parametrize("engine", ["skopeo"], indirect=True)
async def test_a_name_without_a_slash_means_the_library(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, APP, "1")
    await engine.pull("app", "1")
    assert (await engine.held("app", "1")).is_same(image)
    assert hub.pulls == 1
    await engine.pull(APP, "1")
    assert hub.pulls == 1
