"""Lookups: the addresses of names, asked for on threads that one upstream shares with no other."""

from __future__ import annotations

import asyncio
import errno
import socket
from concurrent.futures import Future
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from mirror.detached import Detached

_OTHERS = 4  # threads for the names that an upstream leads to
_MOST = 64  # of these names at a time: as many as there are connections for small questions


class Lookups(AbstractResolver):
    """Asks the system for addresses; raises OSError. The name `own` waits for no other.

    The system takes half a minute for a name whose server is silent (resolv.conf(5), "timeout" and
    "attempts"), and a thread that has begun cannot be called back. An upstream that leads to such
    names holds up more of these, and neither its own name nor another upstream.
    """

    def __init__(self, own: str) -> None:
        self._own = own
        self._first = Detached(1, "name")
        self._others = Detached(_OTHERS, "names")
        self._running: set[Future[Any]] = set()

    def __repr__(self) -> str:
        return f"<Lookups for {self._own}: {len(self._running)} running>"

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return where a name leads."""
        kind, flags = socket.SOCK_STREAM, socket.AI_ADDRCONFIG
        ask = partial(socket.getaddrinfo, host, port, family, kind, flags=flags)
        found = await asyncio.wrap_future(self._submit(ask, own=host == self._own))
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=of,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for of, _, protocol, _, address in found
        ]

    def _submit(self, ask: partial[Any], *, own: bool) -> Future[Any]:
        if own:
            return self._first.submit(ask)
        if len(self._running) >= _MOST:
            raise OSError(errno.EAGAIN, "too many names are being looked up")
        running = self._others.submit(ask)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return running

    async def close(self) -> None:
        """Begin no more; what has begun is waited for by nobody, the end of the process neither."""
        for threads in (self._first, self._others):
            threads.close()
