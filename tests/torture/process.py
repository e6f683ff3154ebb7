"""The daemon: a real process on one port and one folder, killed, stopped and started again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.support.command import SMALL, Command, launched
from tests.support.ports import free_port

# Short, so that each of them passes within a round of some seconds.
PATIENCE = {
    "connect-timeout": "2",
    "answer-timeout": "4",
    "silence-timeout": "1",
    "stale-after": "1",
    "tag-ttl": "1",
    "missing-ttl": "1",
    "abandon-after": "0.5",
    "shutdown-grace": "1",
    "memory-cache": "2MiB",
    "max-fetches": "16",
}
STARTS_WITHIN = 30.0
STOPS_WITHIN = 20.0


class Daemon:
    """`mirror serve` on `folder`, before `upstream` and `others` by name.

    `killed` are the times, by the monotonic clock, of its deaths.
    """

    def __init__(
        self, folder: Path, upstream: str, max_size: int, others: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.max_size = max_size
        self.killed: list[float] = []
        self.restored: list[float] = []
        self.said = ""
        self._upstreams = {"docker.io": upstream} | dict(others or {})
        self._port = free_port()
        self._command: Command | None = None
        self._life = AsyncExitStack()

    @property
    def url(self) -> str:
        """The address, the same in all lives."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id, while the daemon lives."""
        return self._command.pid if self._command else None

    @property
    def says(self) -> str:
        """The log of the present life."""
        return self._command.err if self._command else ""

    async def start(self) -> None:
        """Start the daemon and wait until it serves; fails if that takes too long."""
        flags = {
            **PATIENCE,
            "listen": f"127.0.0.1:{self._port}",
            "data-dir": str(self.folder),
            "max-size": str(self.max_size),
        }
        options = [part for key, value in flags.items() for part in (f"--{key}", value)]
        for name, url in self._upstreams.items():
            options += ["--upstream", f"{name}={url}"]
        command = await self._life.enter_async_context(launched("serve", *options, command=SMALL))
        await command.address(STARTS_WITHIN)
        self._command = command

    async def kill(self) -> None:
        """Kill the daemon by SIGKILL, and start it again."""
        assert self._command
        self.killed.append(time.monotonic())
        self._command.send(signal.SIGKILL)
        await self._bury()
        await self.start()
        self.restored.append(time.monotonic())

    async def stop(self) -> int:
        """Stop the daemon by SIGTERM; returns its exit code. Fails if that takes too long."""
        assert self._command
        self._command.send(signal.SIGTERM)
        code = (await self._command.ended(STOPS_WITHIN)).code
        await self._bury()
        return code

    async def close(self) -> None:
        """End the daemon, if it lives."""
        if self._command:
            await self._bury()

    async def _bury(self) -> None:
        command, self._command = self._command, None
        await self._life.aclose()
        self.said += command.err if command else ""

    def dead_between(self, began: float, ended: float) -> bool:
        """Tell whether the daemon was dead at some time between these."""
        lives = zip(self.killed, [*self.restored, float("inf")], strict=False)
        return any(died <= ended and began <= back for died, back in lives)

    async def metrics(self) -> dict[str, float]:
        """Return the metrics without labels."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            session.get(f"{self.url}/metrics", timeout=aiohttp.ClientTimeout(10)) as response,
        ):
            families = text_string_to_metric_families(await response.text())
            return {s.name: s.value for family in families for s in family.samples if not s.labels}

    async def settled(self, within: float) -> bool:
        """Wait until no fetch and no follower is left; False if that takes too long."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            figures = await self.metrics()
            if not figures["mirror_fetches"] and not figures["mirror_followers"]:
                return True
            await asyncio.sleep(0.1)
        return False
