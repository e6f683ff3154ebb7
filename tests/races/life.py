"""One life of the daemon, from its start to its end: the command's own `serve`, in this process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import tests.support.small_caches  # noqa: F401 - makes the daemon's caches small
from mirror.admin.service import AdminService
from mirror.app.upstream_plans import UpstreamPlan
from mirror.app.upstreams import Reached, Upstreams
from mirror.cli.commands import serve
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.content.blobs.service import BlobService
from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.manifests.tags import Tags
from mirror.settings import Settings, load
from mirror.storage.store import Store
from mirror.util.log_writer import LogWriter
from mirror.web.connections.shutdown import Grace
from tests.races.loop import SeededLoop
from tests.races.plan import Manner
from tests.races.registry import Upstream

P = TypeVar("P")
_PARTS = (BlobService, FetchPool, ManifestResolver, Store, Tags, AdminService)
_GRACE = 1.0  # seconds for clients at a stop

Make = Callable[[str], Upstream]


def settings(folder: Path, upstreams: tuple[str, ...], manner: Manner) -> Settings:
    """Return a daemon's settings."""
    return load(
        {
            "listen": "127.0.0.1:0",
            "data_dir": folder,
            "upstreams": {name: {"url": f"http://{name}"} for name in upstreams},
            "max_size": manner.bound,
            "missing_ttl": manner.missing_ttl,
            "tag_ttl": manner.tag_ttl,
            "max_fetches": manner.fetches,
            "abandon_after": 0.5,
            "memory_cache": 100_000,
            "shutdown_grace": _GRACE,
            "limit_check": 0,
            "log_format": "json",
        }
    )


class Life:
    """A daemon that serves; `parts` are its wired objects, by their class."""

    def __init__(self, chosen: Settings) -> None:
        self.parts: dict[type, Any] = {}
        self.clients: set[asyncio.Task[None]] = set()
        self.ready = asyncio.Event()
        self.stopping = False
        self._task = asyncio.create_task(serve.serve(chosen, LogWriter(-1, str)), name="the daemon")

    def part(self, kind: type[P]) -> P:
        """Return a part."""
        found: P = self.parts[kind]
        return found

    async def started(self) -> None:
        """Wait until it serves; raises the error of its start."""
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait([ready, self._task], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._task.result()

    def ask(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Serve a client."""
        client = asyncio.create_task(work)
        self.clients.add(client)
        client.add_done_callback(self.clients.discard)
        return client

    def signal(self) -> None:
        """Send a SIGTERM, as the kernel would."""
        self.stopping = True
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        if handler := loop.signals.get(signal.SIGTERM):
            loop.call_soon(handler)

    async def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        return await self._task

    async def gone(self) -> None:
        """Wait for all clients to end."""
        if self.clients:
            await asyncio.wait(set(self.clients))

    async def hang_up(self) -> None:
        """Cancel the clients, as a server does at the end of the grace."""
        left = set(self.clients)
        for client in left:
            client.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class Lives:
    """The daemon's lives, one after the other. `make` makes an upstream."""

    def __init__(self, chosen: Settings, make: Make) -> None:
        self.now: Life | None = None
        self._chosen = chosen
        self._make = make

    async def start(self) -> Life:
        """Begin a life."""
        self.now = life = Life(self._chosen)
        await life.started()
        return life

    @contextmanager
    def wired(self) -> Iterator[None]:
        """Connect daemons to these upstreams, and note each daemon's parts."""
        put_back: list[tuple[object, str, object]] = []

        def put(owner: object, name: str, value: object) -> None:
            put_back.append((owner, name, getattr(owner, name)))
            setattr(owner, name, value)

        for kind in _PARTS:
            put(kind, "__init__", self._noting(kind))
        put(Upstreams, "reach", self._reach())
        put(serve, "notify", self._told)
        put(Grace, "lends", self._lending())
        try:
            yield
        finally:
            for owner, name, value in reversed(put_back):
                setattr(owner, name, value)

    def _noting(self, kind: type) -> Callable[..., None]:
        true: Callable[..., None] = kind.__init__  # type: ignore[misc]

        def init(part: object, *args: object, **more: object) -> None:
            true(part, *args, **more)
            if self.now is not None:
                self.now.parts[kind] = part

        return init

    def _reach(self) -> Callable[[Upstreams, UpstreamPlan], Coroutine[Any, Any, Reached]]:
        async def reach(_: Upstreams, plan: UpstreamPlan) -> Reached:
            made: Any = self._make(plan.origin.name)
            return Reached(plan, made, None, AsyncExitStack())

        return reach

    def _told(self, state: str) -> None:
        if state == "READY=1" and self.now is not None:
            self.now.ready.set()

    def _lending(self) -> Callable[[Grace, object], Coroutine[Any, Any, None]]:
        true: Callable[[Grace, Life], Coroutine[Any, Any, None]] = Grace.lends  # type: ignore[assignment]

        async def lends(grace: Grace, _: object) -> None:
            if self.now is not None:
                self.now.stopping = True
                try:
                    await true(grace, self.now)
                finally:
                    await self.now.hang_up()

        return lends
