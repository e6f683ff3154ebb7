"""The fixtures of every test: a hub, a mirror of it, and one client after another."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.standin import Hub, Image, image_from_rootfs, make_image
from tests.support.ports import free_port

from .containerd import Containerd
from .containers import Buildah, Podman, Skopeo
from .dockerd import Docker
from .engines import Engine
from .mirrors import Mirror, mirroring
from .processes import needs, scratch
from .rootfs import GREETING, NATIVE, PROGRAM, rootfs

ENGINES: dict[str, type[Engine]] = {
    "dockerd": Docker,
    "containerd": Containerd,
    "podman": Podman,
    "buildah": Buildah,
    "skopeo": Skopeo,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of an engine in one worker, and those of a module: a start takes seconds."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    call = getattr(item, "callspec", None)
    engine = call.params.get("engine") if call else None
    return engine if isinstance(engine, str) else item.path.stem


@pytest.fixture(scope="session")
def port() -> int:
    """The port of every mirror, for engines are configured only once."""
    return free_port()


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest, port: int) -> Iterator[Engine]:
    """Each client in turn."""
    kind = ENGINES[request.param]
    needs(*kind.programs)
    with scratch() as folder, kind(folder, port) as engine:
        yield engine


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """Docker Hub, empty."""
    async with Hub() as hub:
        yield hub


@pytest.fixture
async def mirror(hub: Hub, port: int) -> AsyncIterator[Mirror]:
    """A mirror of the hub, without options."""
    async with mirroring(hub.url, port) as mirror:
        yield mirror


@pytest.fixture
def image(request: pytest.FixtureRequest) -> Image:
    """A unique image of three layers; one has a program and the test's name."""
    return image_called(request.node.name)


@pytest.fixture
def other(request: pytest.FixtureRequest) -> Image:
    """Another unique image."""
    return image_called(f"{request.node.name}, the other")


def image_called(name: str) -> Image:
    """Make a unique image of three layers; one has a program and this name."""
    base = image_from_rootfs(rootfs(name), [PROGRAM, GREETING], architecture=NATIVE)
    return make_image(name, [1_500_000, 1000], architecture=NATIVE, base=base)
