"""Current engines pull and build through the mirror, as `client-config` configured them."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.real.dockerd import Docker
from tests.real.engines import Engine
from tests.real.mirrors import GHCR, Mirror, tell
from tests.real.processes import scratch
from tests.real.refusals import denied_with_only_alone, unknown_with_only
from tests.real.registries import APPS, mirroring_all, pulled_at_once, several
from tests.standin import Hub, Image

from .engines import ClassicDocker, ModernDocker, needs_built

APP = "library/app"


async def test_three_registries_at_once_cold_and_warm(
    engine: Engine, port: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with (
        several(request.node.name) as registries,
        mirroring_all(registries, port, tmp_path),
    ):
        await pulled_at_once(engine, registries)


async def test_without_upstream_a_pulled_image_is_still_complete(
    engine: Engine, hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, APP, "1")
    await engine.pull(APP, "1")
    await engine.forget(APP, "1")
    await hub.down()
    await engine.pull(APP, "1")
    assert (await engine.held(APP, "1")).is_same(image)


@pytest.mark.parametrize("engine", ["dockerd", "dockerd-classic"], indirect=True)
async def test_a_build_from_another_registrys_image_comes_through_the_mirror(
    engine: Docker, port: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """BuildKit in dockerd reads `hosts.toml` with either store."""
    async with (
        several(request.node.name) as registries,
        mirroring_all(registries, port, tmp_path),
    ):
        await engine.build_from(f"{GHCR}/org/app:1", "built:1")
        assert registries.hubs[GHCR].pulls == 1


@pytest.mark.parametrize("engine", ["dockerd", "dockerd-classic"], indirect=True)
async def test_buildx_builds_with_dockerd(
    engine: ClassicDocker, port: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    needs_built("buildx")
    async with (
        several(request.node.name) as registries,
        mirroring_all(registries, port, tmp_path),
    ):
        for app in APPS:
            await engine.buildx(f"{app}:1")
        assert [hub.pulls for hub in registries.hubs.values()] == [1, 1, 1]


@pytest.mark.parametrize("engine", ["dockerd", "containerd"], indirect=True)
async def test_with_only_the_registry_is_not_asked_for_what_the_mirror_denies(
    engine: Engine, hub: Hub, image: Image, tmp_path: Path
) -> None:
    try:
        await denied_with_only_alone(engine, hub, image, tmp_path)
    finally:
        tell(engine.client, engine.port, engine.configured)


@pytest.mark.parametrize("engine", ["dockerd", "containerd"], indirect=True)
async def test_with_only_a_registry_that_the_mirror_does_not_know_is_not_asked(
    engine: Engine, hub: Hub, image: Image
) -> None:
    try:
        await unknown_with_only(engine, hub, image)
    finally:
        shutil.rmtree(engine.configured / "_default", ignore_errors=True)
        shutil.rmtree(engine.configured / "certs.d" / "_default", ignore_errors=True)
        tell(engine.client, engine.port, engine.configured)


async def test_hosts_files_of_dockerd_want_no_reload(
    hub: Hub, mirror: Mirror, image: Image, port: int
) -> None:
    needs_built(*ModernDocker.programs)
    hub.add(image, APP, "1")
    with scratch() as folder:
        docker = ModernDocker(folder, port)
        (docker.configured / "daemon.json").unlink()
        (docker.configured / "certs.d" / "docker.io" / "hosts.toml").unlink()
        with docker:
            await asyncio.to_thread(tell, docker.client, port, docker.configured)
            await docker.pull(APP, "1")
            assert (await docker.held(APP, "1")).is_same(image)
    assert hub.pulls == 1
