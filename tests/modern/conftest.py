"""The fixtures of every test: a hub, a mirror of it, and one engine after another."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.real.conftest import image_called
from tests.real.engines import Engine
from tests.real.mirrors import Mirror, mirroring
from tests.real.processes import scratch
from tests.standin import Hub, Image
from tests.support.ports import free_port

from .cri import Cri
from .engines import ClassicDocker, ModernContainerd, ModernDocker, needs_built

ENGINES: dict[str, type[Engine]] = {
    "dockerd": ModernDocker,
    "dockerd-classic": ClassicDocker,
    "containerd": ModernContainerd,
    "cri": Cri,
}


@pytest.fixture(scope="session")
def port() -> int:
    """The port of every mirror, for engines are configured only once."""
    return free_port()


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest, port: int) -> Iterator[Engine]:
    """Each engine in turn."""
    kind = ENGINES[request.param]
    needs_built(*kind.programs)
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
