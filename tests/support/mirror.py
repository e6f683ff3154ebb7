"""A running mirror and a client of it, as most tests use them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from mirror.app.daemon import Daemon
from tests.standin import Image
from tests.support.folder import DataFolder
from tests.support.stored import Stored
from tests.support.waiting import until


@dataclass(frozen=True)
class Got:
    """A whole response."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, decompressed."""
        packed = self.headers.get("Content-Encoding") == "gzip"
        return (gzip.decompress(self.body) if packed else self.body).decode()

    @property
    def cache(self) -> str:
        """What Cache-Status says behind the cache's name."""
        return self.headers["Cache-Status"].removeprefix("mirror; ")


class Mirror:
    """A running mirror and a client of it; `folder` is its disk, `stored` its content."""

    def __init__(self, daemon: Daemon, session: aiohttp.ClientSession) -> None:
        self.daemon = daemon
        self.session = session
        self.url = str(daemon.url)
        self.folder = DataFolder(daemon.store.root)
        self.stored = Stored(daemon.store)

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

    async def serves(self, repository: str, reference: str) -> bool:
        """Whether a manifest is served."""
        return (await self.manifest(repository, reference)).status == 200

    async def settled(self) -> None:
        """Wait until all fetches have ended, and their blobs are stored."""
        if len(self.daemon.fetches):
            await until(lambda: not len(self.daemon.fetches))


Run = Callable[..., AbstractAsyncContextManager[Mirror]]
