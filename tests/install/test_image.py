"""The image of `make image`: Docker runs it as documented, also the lines of `docker exec`."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mirror
from tests.real.dockerd import Docker
from tests.real.processes import needs, scratch
from tests.support.ports import free_port

from .conftest import PROJECT

OPERATIONS = (PROJECT / "docs" / "operations.md").read_text()
LARGEST = 150_000_000  # bytes, unpacked


class Host(Docker):
    """A machine with Docker; its containers have only the loopback."""

    async def type(self, line: str) -> str:
        """Run a line that begins with `docker`."""
        [docker, *words] = shlex.split(line.replace("\\\n", " "))
        assert docker == "docker"
        return (await self._docker(*words)).decode()

    async def inspected(self, name: str) -> dict[str, Any]:
        """Return the `docker inspect` of a container or image."""
        [found] = json.loads(await self.type(f"docker inspect {name}"))
        return dict(found)

    async def until_healthy(self) -> None:
        """Wait until the image's health check succeeds."""
        async with asyncio.timeout(60):
            while await self._health() != "healthy":  # noqa: ASYNC110 - Docker has to be asked
                await asyncio.sleep(0.2)

    async def _health(self) -> str:
        return str((await self.inspected("mirror"))["State"]["Health"]["Status"])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image, for `docker load`."""
    needs("mmdebstrap", "buildah")
    folder = tmp_path_factory.mktemp("image")
    build: list[str | Path] = [PROJECT / "deploy/image.sh", sys.executable, folder]
    subprocess.run(build, check=True, timeout=900)
    [archive] = folder.glob("mirror-*-image.tar")
    return archive


@pytest.fixture(scope="module")
def host(archive: Path) -> Iterator[Host]:
    """A machine with Docker and the image."""
    needs(*Docker.programs)
    with scratch() as folder, Host(folder, free_port()) as host:
        asyncio.run(host.type(f"docker load --input {archive}"))
        asyncio.run(host.type(f"docker tag mirror:{mirror.__version__} mirror"))
        yield host


def as_documented() -> str:
    """Return the documented `docker run`, without a network, since there is no bridge."""
    [line] = re.findall(r"^docker run .*(?:\n    .*)+$", OPERATIONS, flags=re.MULTILINE)
    return re.sub(r"--publish \S+", "--network none", line)


@pytest.mark.timeout(1200)
async def test_the_image_runs_as_documented_and_takes_the_documented_commands(host: Host) -> None:
    await host.type(as_documented())
    try:
        await host.until_healthy()
        documented = re.findall(r"docker exec [^`\n]+", OPERATIONS)
        lines = {line for line in documented if "--tty" not in line}  # --tty needs a terminal
        assert "docker exec mirror mirror du" in lines
        printed = {line: await host.type(line) for line in sorted(lines)}
        assert "in all, of 50.0 GiB" in printed["docker exec mirror mirror du"]
        user = await host.type("docker exec mirror id -u")
        assert user.strip() == "10001"
        await host.type("docker stop mirror")
        assert (await host.inspected("mirror"))["State"]["ExitCode"] == 0
    finally:
        await host.type("docker rm --force mirror")


@pytest.mark.timeout(1200)
async def test_a_file_at_its_place_configures_daemon_and_commands(host: Host) -> None:
    config = host.folder / "mirror.toml"
    config.write_text('max_size = "7GiB"\n')
    config.chmod(0o644)
    mounted = f"--volume {config}:/etc/mirror/mirror.toml:ro --volume"
    await host.type(as_documented().replace("--volume", mounted, 1))
    try:
        await host.until_healthy()
        assert "of 7.0 GiB" in await host.type("docker exec mirror mirror du")
        assert "at most 7.0 GiB" in await host.type("docker logs mirror")
    finally:
        await host.type("docker rm --force mirror")


@pytest.mark.timeout(1200)
async def test_the_image_is_small_and_says_its_version(host: Host) -> None:
    assert (await host.inspected("mirror:latest"))["Size"] < LARGEST
    version = await host.type("docker run --rm --network none mirror --version")
    assert version.strip() == f"mirror {mirror.__version__}"
