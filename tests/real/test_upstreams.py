"""Every client pulls from several registries at once, through one mirror."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from .containerd import Containerd
from .engines import Engine
from .mirrors import Mirror
from .processes import CommandFailed, needs, scratch
from .registries import Registries, mirroring_all, pulled_at_once, several


@pytest.fixture
async def registries(request: pytest.FixtureRequest) -> AsyncIterator[Registries]:
    """Docker Hub and two other registries, on ports of loopback."""
    async with several(request.node.name) as registries:
        yield registries


@pytest.fixture
async def mirror(registries: Registries, port: int, tmp_path: Path) -> AsyncIterator[Mirror]:
    """A mirror of all three upstreams of the engines' configuration."""
    async with mirroring_all(registries, port, tmp_path) as mirror:
        yield mirror


@pytest.fixture(scope="module")
def containerd(port: int) -> Iterator[Containerd]:
    """One containerd with only `_default/hosts.toml`."""
    needs(*Containerd.programs)
    with scratch() as folder, Containerd(folder, port, default=True) as engine:
        yield engine


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
    with pytest.raises(CommandFailed, match=r"elsewhere\.example"):  # directly
        await containerd.pull("elsewhere.example/org/app", "1")
    await mirror.until(lambda: "ns=elsewhere.example" in mirror.log)
    [line, *_] = [line for line in mirror.log.splitlines() if "ns=elsewhere.example" in line]
    assert "status=404" in line
    assert "no upstream 'elsewhere.example' here" in line
    assert not any(hub.requests for hub in registries.hubs.values())
