"""A client gets an image that the mirror refuses from the registry, unless it has `--only`."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.standin import Hub, Image

from .containerd import Containerd
from .containers import Buildah, Podman, Skopeo
from .dockerd import Docker
from .engines import Engine
from .processes import CommandFailed, needs, scratch
from .refusals import denied_with_only_alone, told, unknown_with_only


@pytest.fixture(params=[Containerd, Podman, Buildah, Skopeo])
def engine(request: pytest.FixtureRequest, port: int) -> Iterator[Engine]:
    """Each client with a configuration for `--only`, in turn."""
    needs(*request.param.programs)
    with scratch() as folder, request.param(folder, port) as engine:
        yield engine


@pytest.fixture
async def refused(request: pytest.FixtureRequest, port: int) -> AsyncIterator[list[str]]:
    """The requests to a mirror that answers all of them with one status."""
    asked: list[str] = []

    async def refuse(asking: web.Request) -> web.Response:
        asked.append(asking.path_qs)
        return web.json_response({"errors": []}, status=request.param, headers={"Retry-After": "1"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield asked
    await runner.cleanup()


async def test_with_only_the_registry_is_not_asked_for_what_the_mirror_denies(
    engine: Engine, hub: Hub, image: Image, tmp_path: Path
) -> None:
    await denied_with_only_alone(engine, hub, image, tmp_path)


@pytest.mark.parametrize("engine", [Containerd], indirect=True)
async def test_with_only_a_registry_that_the_mirror_does_not_know_is_not_asked(
    engine: Engine, hub: Hub, image: Image
) -> None:
    """podman, buildah and skopeo have no entry for all registries."""
    await unknown_with_only(engine, hub, image)


@pytest.mark.parametrize("refused", [401, 403, 404, 429, 503], indirect=True)
async def test_without_only_the_registry_is_asked_after_any_answer(
    engine: Engine, hub: Hub, image: Image, refused: list[str]
) -> None:
    """So a bad mirror is no worse than none, and its denials are not enforced."""
    hub.add(image, "org/app", "1")
    app = f"{told(engine, hub, only=False)}/org/app"
    await engine.pull(app, "1")
    assert (await engine.held(app, "1")).is_same(image)
    assert refused


@pytest.mark.parametrize("refused", [401, 403, 404, 429, 503], indirect=True)
async def test_dockerd_goes_on_to_docker_hub_after_any_answer(
    refused: list[str], dockerd: Docker
) -> None:
    with pytest.raises(CommandFailed, match=r"registry-1\.docker\.io"):
        await dockerd.pull("library/app", "1")
    assert refused


@pytest.fixture(scope="module")
def dockerd(port: int) -> Iterator[Docker]:
    """Docker with its classic image store, which has no equivalent of `--only`."""
    needs(*Docker.programs)
    with scratch() as folder, Docker(folder, port) as engine:
        yield engine
