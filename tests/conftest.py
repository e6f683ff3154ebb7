"""What the tests stand on: a stand-in hub, a mirror before it, a client before that."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from hypothesis import settings
from multidict import CIMultiDictProxy
from yarl import URL

import tests.small  # noqa: F401 - its caches are small
from mirror.app.daemon import Daemon, running
from mirror.settings import load
from mirror.storage.index import Index
from mirror.storage.startup import open_index
from tests.command import environment
from tests.standin import Hub, Image, Terms, make_image

if TYPE_CHECKING:
    from tests.reloading import Changing

# The same examples each time, so that a failure is the change's; slow machines are no failure.
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
# `pytest --hypothesis-profile=search`: others each time, and more of them.
settings.register_profile("search", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("steady")


@dataclass(frozen=True)
class Got:
    """A whole response."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def cache(self) -> str:
        """What Cache-Status says behind the cache's name."""
        return self.headers["Cache-Status"].removeprefix("mirror; ")


class Mirror:
    """A running mirror and a client of it."""

    def __init__(self, daemon: Daemon, session: aiohttp.ClientSession) -> None:
        self.daemon = daemon
        self.session = session
        self.url = str(daemon.url)

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Got:
        """Ask for a path as it stands, with `If_None_Match="…"` for a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.request(path, method, named) as response:
            return Got(response.status, response.headers, await response.read())

    async def ask_from(self, address: str, path: str, method: str = "GET", **headers: str) -> Got:
        """Ask as a client at another address of the loopback."""
        connector = aiohttp.TCPConnector(local_addr=(address, 0))
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            return await Mirror(self.daemon, session).ask(path, method, **headers)

    def request(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Ask, and leave the reading to the caller."""
        url = URL(self.url + path, encoded=True)
        return self.session.request(method, url, headers=headers, allow_redirects=False)

    async def manifest(self, repository: str, reference: str, method: str = "GET") -> Got:
        """Ask for a manifest."""
        return await self.ask(f"/v2/{repository}/manifests/{reference}", method)

    async def blob(self, repository: str, digest: str, method: str = "GET", **headers: str) -> Got:
        """Ask for a blob."""
        return await self.ask(f"/v2/{repository}/blobs/{digest}", method, **headers)

    async def pull(self, repository: str, tag: str, image: Image) -> None:
        """Pull an image as dockerd does; fails unless all of it is right."""
        head = await self.manifest(repository, tag, "HEAD")
        assert head.headers["Docker-Content-Digest"] == image.digest
        got = await self.manifest(repository, image.digest)
        assert got.body == image.manifest
        for blob in image.blobs:
            assert (await self.blob(repository, blob.digest)).body == blob.read()
        await self.settled()

    async def settled(self) -> None:
        """Wait until all that was fetched is in its place."""
        async with asyncio.timeout(5):
            while len(self.daemon.fetches):
                await self.ask("/healthz")


Run = Callable[..., AbstractAsyncContextManager[Mirror]]


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """A stand-in for Docker Hub that wants tokens and redirects blobs."""
    async with Hub(Terms()) as hub:
        yield hub


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    """Start a mirror of the hub; the same data folder each time, other settings as given."""

    @asynccontextmanager
    async def start(
        timer: Callable[[], float] = time.monotonic, **settings: object
    ) -> AsyncIterator[Mirror]:
        given = {
            "listen": "127.0.0.1:0",
            "data_dir": tmp_path / "data",
            "upstreams": {"docker.io": {"url": hub.url}},
            "shutdown_grace": 1,
            "limit_check": 0,  # nobody asks but the test
        }
        # Connections are not shared between requests: each test sees its own.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            running(load(given | settings), timer) as daemon,
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
async def index(tmp_path: Path) -> AsyncIterator[Index]:
    """An index of its own, closed whatever becomes of the test."""
    index = await open_index(tmp_path / "index.db")
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
    from tests.reloading import Changing  # noqa: PLC0415 - which imports this module

    return Changing(tmp_path / "data", hub)


@pytest.fixture
async def other() -> AsyncIterator[Hub]:
    """Another registry."""
    async with Hub(Terms()) as hub:
        yield hub
