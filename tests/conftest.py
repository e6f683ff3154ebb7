"""The base of the tests: a stand-in hub, a mirror before it, a client before that."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from hypothesis import settings

import tests.support.small_caches  # noqa: F401 - its caches are small
from mirror.app.core import Clocks
from mirror.app.daemon import running
from mirror.settings import load
from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.metadata.sqlite.store import open_sqlite
from tests.attacks.steps import steps
from tests.standin import Hub, Image, Terms, make_image
from tests.support.clock import Clock
from tests.support.command import environment
from tests.support.mirror import Mirror, Run
from tests.support.pace import AGAIN, at_most
from tests.support.reloading import Changing

# The same examples each time, so that a failure is the change's; slow machines are no failure.
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
# `pytest --hypothesis-profile=search`: others each time, and more of them.
settings.register_profile("search", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run a test of bounded work again after an exceeded bound."""
    for item in items:
        module = getattr(item, "module", None)
        if steps is getattr(module, "steps", None) or at_most is getattr(module, "at_most", None):
            item.add_marker(AGAIN)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """A stand-in for Docker Hub that wants tokens and redirects blobs."""
    async with Hub(Terms()) as hub:
        yield hub


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    """Start a mirror of the hub, in the same data folder each time.

    Settings are as given. With a `clock` the mirror's decisions take the time from it.
    """

    @asynccontextmanager
    async def start(clock: Clock | None = None, **settings: object) -> AsyncIterator[Mirror]:
        given = {
            "listen": "127.0.0.1:0",
            "data_dir": tmp_path / "data",
            "upstreams": {"docker.io": {"url": hub.url}},
            "shutdown_grace": 1,
            "limit_check": 0,  # nobody asks but the test
            "tag_refresh_ahead": 0,
        }
        clocks = Clocks() if clock is None else Clocks(timer=clock, wall=clock.wall)
        # Connections are not shared between requests: each test sees its own.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            running(load(given | settings), clocks) as daemon,
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
        ):
            yield Mirror(daemon, session)

    return start


@pytest.fixture
async def mirror(run: Run) -> AsyncIterator[Mirror]:
    """A mirror of the hub as it comes."""
    async with run() as mirror:
        yield mirror


@pytest.fixture
def image(hub: Hub) -> Image:
    """An image that the hub has as `library/nginx:latest`."""
    image = make_image(1, [300_000, 2_000_000])
    hub.add(image, "library/nginx", "latest")
    return image


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[MetadataStore]:
    """An index of its own, closed whatever becomes of the test."""
    index = await open_sqlite(tmp_path)
    try:
        yield index
    finally:
        await index.close()


@pytest.fixture
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing of this process's own configuration in the environment."""
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a configuration may be written."""
    return tmp_path / "mirror.toml"


@pytest.fixture
def changing(tmp_path: Path, hub: Hub) -> Changing:
    """A mirror of the hub, to be run and reloaded with other settings."""
    return Changing(tmp_path / "data", hub)


@pytest.fixture
async def other() -> AsyncIterator[Hub]:
    """Another registry."""
    async with Hub(Terms()) as hub:
        yield hub
