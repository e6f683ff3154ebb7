"""A mirror with settings that change while it runs, and requests that show them in force."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from mirror.app.core import Clocks
from mirror.app.daemon import running
from mirror.app.reload import Applied
from mirror.settings import Loaded, load_all
from tests.standin import Hub
from tests.support.clock import Clock
from tests.support.mirror import Got, Mirror

NAME = "library/nginx"
GHCR = "ghcr.example"


class Changing:
    """A mirror of its own, and the settings that it reads when it is told to."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self._base: dict[str, object] = {
            "listen": "127.0.0.1:0",
            "data_dir": folder,
            "shutdown_grace": 1,
            "limit_check": 0,
            "tag_refresh_ahead": 0,
        }
        self.upstreams: dict[str, dict[str, object]] = {"docker.io": {"url": hub.url}}
        self.keys: dict[str, object] = {}
        self.fails: Exception | None = None

    def read(self) -> Loaded:
        """Return them as they are now."""
        if self.fails is not None:
            raise self.fails
        return load_all({**self._base, "upstreams": self.upstreams, **self.keys})

    @asynccontextmanager
    async def running(self, clock: Clock | None = None) -> AsyncIterator[Mirror]:
        """Run it, before a client that keeps its connections."""
        clocks = None if clock is None else Clocks(timer=clock, wall=clock.wall)
        loaded = self.read()
        async with (
            running(loaded.checked(), clocks, read=self.read, sources=loaded.sources) as daemon,
            aiohttp.ClientSession(auto_decompress=False) as session,
        ):
            yield Mirror(daemon, session)


async def reload(mirror: Mirror) -> Applied:
    """Have it take up the changed settings."""
    return await mirror.daemon.reloader.reload()


async def manifest(mirror: Mirror, name: str, upstream: str, token: str = "") -> Got:
    """Ask for the tag `latest` of an upstream that is named."""
    login = {"Authorization": f"Bearer {token}"} if token else {}
    return await mirror.ask(f"/v2/{name}/manifests/latest?ns={upstream}", **login)
