"""Handshakes: a connection counts from its first byte, and has so long to become one of TLS."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import cast

from aiohttp import web

from mirror.web.connections import BACKLOG, Connections
from mirror.web.tls import Certificate

_log = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds
_GOODBYE = 5.0  # seconds for the other side to agree to the end
Make = Callable[[], asyncio.Protocol]


class TlsSite(web.SockSite):
    """Listens, and hands connections that complete a handshake to the runner's server.

    asyncio's own way calls the server only then: connections that never begin would be counted by
    nobody, without bound.
    """

    def __init__(
        self,
        runner: web.ServerRunner,
        listener: socket.socket,
        certificate: Certificate,
        connections: Connections,
    ) -> None:
        super().__init__(runner, listener, ssl_context=certificate.context, backlog=BACKLOG)
        self._certificate = certificate
        self._connections = connections
        self._listener = listener
        self._make = cast("Make", runner.server)  # there once the runner is set up
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Handshake(self._begin, self._connections),
            sock=self._listener,
            backlog=BACKLOG,
        )

    async def stop(self) -> None:
        """Listen no more; handshakes that run are cut."""
        await super().stop()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _begin(self, handshake: Handshake, transport: asyncio.Transport) -> None:
        task = asyncio.create_task(handshake.run(transport, self._certificate.context, self._make))
        self._running.add(task)
        task.add_done_callback(self._running.discard)


class Handshake(asyncio.Protocol):
    """A connection that is not yet one of TLS: it counts as idle."""

    def __init__(
        self,
        begin: Callable[[Handshake, asyncio.Transport], None],
        connections: Connections,
    ) -> None:
        self._begin = begin
        self._connections = connections
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, and begin."""
        plain = cast("asyncio.Transport", transport)
        self._connections.opened(self, plain)
        if not plain.is_closing():  # there was room
            self._begin(self, plain)

    def data_received(self, data: bytes) -> None:
        """Keep what comes right behind the handshake."""
        self._early += data

    async def run(self, transport: asyncio.Transport, context: ssl.SSLContext, make: Make) -> None:
        """Shake hands, and leave the rest to the server's protocol."""
        client = transport.get_extra_info("peername")
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=_PATIENCE,
                ssl_shutdown_timeout=_GOODBYE,
            )
        except OSError as error:  # SSLError, ConnectionError and TimeoutError are such
            _log.info("no TLS with %s: %s", client[0] if client else "somebody", error)
            return
        finally:
            self._connections.closed(self)
        if encrypted is None or encrypted.is_closing():
            return
        protocol = make()
        encrypted.set_protocol(protocol)
        protocol.connection_made(encrypted)
        if self._early:
            protocol.data_received(self._early)
