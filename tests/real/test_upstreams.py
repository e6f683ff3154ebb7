"""Every client pulls from several registries at once, through one mirror, as it was told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.standin import Hub, Image

from .conftest import image_called
from .containerd import Containerd
from .engines import Engine
from .mirrors import GHCR, QUAY, UPSTREAMS, Mirror, mirroring
from .processes import CommandFailed, needs, scratch

APPS = ("library/app", f"{GHCR}/org/app", f"{QUAY}/team/sub/app")  # one of each registry


class Registries:
    """A hub for each name; each has another image under the same tag."""

    def __init__(self, hubs: list[Hub], name: str) -> None:
        self.hubs = dict(zip(UPSTREAMS, hubs, strict=True))
        self.images: dict[str, Image] = {}
        for upstream, app in zip(UPSTREAMS, APPS, strict=True):
            self.images[app] = image_called(f"{name}, {upstream}")
            repository = app.removeprefix(f"{upstream}/")
            self.hubs[upstream].add(self.images[app], repository, "1")


@pytest.fixture
async def registries(request: pytest.FixtureRequest) -> AsyncIterator[Registries]:
    """Docker Hub and two others, on ports of loopback."""
    async with AsyncExitStack() as stack:
        hubs = [await stack.enter_async_context(Hub()) for _ in UPSTREAMS]
        yield Registries(hubs, request.node.name)


@pytest.fixture
async def mirror(registries: Registries, port: int, tmp_path: Path) -> AsyncIterator[Mirror]:
    """A mirror of all three, as engines were told of."""
    hub, *others = registries.hubs.values()
    config = tmp_path / "mirror.toml"
    config.write_text(f'upstreams."{QUAY}" = {{ url = "{others[1].url}", hosts = ["localhost"] }}')
    ghcr = ("--upstream", f"{GHCR}={others[0].url}")
    async with mirroring(
        hub.url, port, "--config", str(config), "--limit-check", "0", *ghcr
    ) as mirror:
        yield mirror


@pytest.fixture(scope="module")
def containerd(port: int) -> Iterator[Containerd]:
    """One containerd with nothing but `_default/hosts.toml`."""
    needs(*Containerd.programs)
    with scratch() as folder, Containerd(folder, port, default=True) as engine:
        yield engine


async def pulled_at_once(engine: Engine, registries: Registries) -> None:
    """Pull from all at once, cold and warm; each registry is asked for its own, and once."""
    async with asyncio.TaskGroup() as group:
        for app in APPS:
            group.create_task(engine.pull(app, "1"))
    for app, image in registries.images.items():
        assert (await engine.held(app, "1")).is_same(image)
    for hub, image in zip(registries.hubs.values(), registries.images.values(), strict=True):
        assert hub.pulls == 1
        assert [hub.bodies(blob.digest) for blob in image.blobs] == [1, 1, 1, 1]
        hub.journal.clear()
    for app, image in registries.images.items():
        await engine.forget(app, "1")
        await engine.pull(app, "1")
        assert (await engine.held(app, "1")).is_same(image)
    assert not any(hub.requests for hub in registries.hubs.values())


async def test_three_registries_at_once(
    engine: Engine, registries: Registries, mirror: Mirror
) -> None:
    await pulled_at_once(engine, registries)
    assert "no upstream" not in mirror.log


async def test_containerd_needs_one_file_for_all(
    containerd: Containerd, registries: Registries, mirror: Mirror
) -> None:
    await pulled_at_once(containerd, registries)


async def test_containerd_is_told_at_once_of_a_registry_that_is_not_mirrored(
    containerd: Containerd, registries: Registries, mirror: Mirror
) -> None:
    with pytest.raises(CommandFailed, match=r"elsewhere\.example"):  # where it goes by itself
        await containerd.pull("elsewhere.example/org/app", "1")
    await mirror.until(lambda: "ns=elsewhere.example" in mirror.log)
    [line, *_] = [line for line in mirror.log.splitlines() if "ns=elsewhere.example" in line]
    assert "status=404" in line
    assert "no upstream 'elsewhere.example' here" in line
    assert not any(hub.requests for hub in registries.hubs.values())
