"""DNS lookups, on threads that belong to one upstream."""

from __future__ import annotations

import asyncio
import errno
import socket
from concurrent.futures import Future
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from mirror.util.detached import DetachedThreads

_OTHERS = 4  # threads for names in redirects and realms
_MOST = 64  # such lookups at a time: as many as connections for small requests


class Lookups(AbstractResolver):
    """A resolver through the system; raises OSError. Lookups of `own` never wait for other names.

    The system takes half a minute for a name with silent servers (resolv.conf(5), "timeout" and
    "attempts"), and a running thread cannot be interrupted. Such names in redirects delay only each
    other, and neither the upstream's own name nor other upstreams.
    """

    def __init__(self, own: str) -> None:
        self._own = own
        self._first = DetachedThreads(1, "name")
        self._others = DetachedThreads(_OTHERS, "names")
        self._running: set[Future[Any]] = set()

    def __repr__(self) -> str:
        return f"<Lookups for {self._own}: {len(self._running)} running>"

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name."""
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
        """Start no more lookups; running ones are not waited for, not even at exit."""
        for threads in (self._first, self._others):
            threads.close()
