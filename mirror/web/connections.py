"""Clients' connections: how many there may be, and for how long one may do nothing."""

from __future__ import annotations

import asyncio
import socket
import typing
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from mirror.oci.errors import RegistryError, RequestInvalid
from mirror.web.refusal import refusal

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

BACKLOG = 4096
# Unsent bytes that the kernel queues per connection. Without it, megabytes wait there, copies
# leave the CPU's cache, and a slow reader pins memory (measured: 2.6 GB/s before, 3.1-4.0 after).
_TCP_NOTSENT_LOWAT = 25
_UNSENT = 128 * 1024


class Connection(typing.Protocol):
    """What is counted: one that can be made to end."""

    def force_close(self) -> None:
        """End it at once."""


class Connections:
    """All that are open. Beyond `most`, the one that has been idle for longest makes room.

    Where none is idle the new one is closed: it would wait for ever, and the others be cut.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.shed = 0
        self._open: set[Connection] = set()
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._none = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Connections: {len(self)} of at most {self.most}, {len(self._idle)} idle>"

    def opened(self, protocol: Connection) -> None:
        """Take one in, and let go of another if need be."""
        self._none.clear()
        self._open.add(protocol)
        self._idle[protocol] = None
        if len(self._open) > self.most:
            oldest, _ = self._idle.popitem(last=False)
            self._open.discard(oldest)
            self.shed += 1
            oldest.force_close()

    def busy(self, request: web.BaseRequest) -> None:
        """Note that a request is being answered."""
        self._idle.pop(request.protocol, None)

    def rest(self, request: web.BaseRequest) -> None:
        """Note that it has been."""
        if request.protocol in self._open:
            self._idle[request.protocol] = None

    def closed(self, protocol: Connection) -> None:
        """Note that one is gone."""
        self._open.discard(protocol)
        self._idle.pop(protocol, None)
        if not self._open:
            self._none.set()

    async def gone(self) -> None:
        """Wait until none is open: what was answered has then left, to the last byte."""
        if self._open:
            await self._none.wait()


class Protocol(web.RequestHandler):
    """One connection. What is not HTTP gets an error document too."""

    def __init__(
        self,
        server: Listener,
        connections: Connections,
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        super().__init__(server, **options)
        self._counted = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        super().connection_made(transport)
        self._counted.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it out."""
        self._counted.closed(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - as aiohttp has it
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer and end the connection: who knows where the next request begins."""
        if status != 400:
            return refusal(RegistryError(message or "the mirror failed"), last=True)
        reason = type(exc).__name__ if exc else message
        return refusal(RequestInvalid(f"not a request that HTTP allows: {reason}"), last=True)


class Listener(web.Server):
    """Makes a protocol for each connection."""

    def __init__(
        self,
        handler: Handler,
        connections: Connections,
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        super().__init__(handler, **options)
        self._counted = connections
        self._options = options

    def __call__(self) -> Protocol:
        """Make one."""
        loop = asyncio.get_running_loop()
        return Protocol(self, self._counted, loop=loop, **self._options)


def listen(host: str, port: int, patience: float) -> socket.socket:
    """Bind and listen; raises OSError.

    `patience` is how long, in seconds, a client may take nothing of what it is sent, or be gone
    without a word, before the kernel gives it up (TCP_USER_TIMEOUT, RFC 5482). Accepted sockets
    inherit all options.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(patience * 1000))
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
