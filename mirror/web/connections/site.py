"""The listening site: the first steps of each connection, before HTTP."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from aiohttp import web

from mirror.web.connections.certificate import Certificate
from mirror.web.connections.client_connections import BACKLOG, ClientConnections
from mirror.web.connections.proxy_receiver import ProxyReceiver
from mirror.web.connections.tls_handshake import Handshake, Make


class Site(web.SockSite):
    """Listens, and hands each connection to the runner's server once it is ready for HTTP.

    A proxy's preamble comes first, if trusted proxies send them, and then a TLS handshake, if
    there is a `certificate`. Without either, aiohttp's own site does all.
    """

    def __init__(
        self,
        runner: web.ServerRunner,
        listener: socket.socket,
        connections: ClientConnections,
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(runner, listener, backlog=BACKLOG)
        self._listener = listener
        self._connections = connections
        self._certificate = certificate
        trusted_proxies = connections.trusted_proxies
        self._trusted_proxies = (
            trusted_proxies
            if trusted_proxies is not None and trusted_proxies.proxy_protocol
            else None
        )
        self._make = cast("Make", runner.server)  # set once the runner is set up
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start listening."""
        if self._certificate is None and self._trusted_proxies is None:
            await super().start()
            return
        await web.BaseSite.start(self)
        self._server = await asyncio.get_running_loop().create_server(
            self._arrive, sock=self._listener, backlog=BACKLOG
        )

    async def stop(self) -> None:
        """Stop listening; running handshakes are cut."""
        await super().stop()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _arrive(self) -> asyncio.BaseProtocol:
        if self._trusted_proxies is None:
            return self._next(None)
        return ProxyReceiver(self._next, self._connections, self._trusted_proxies)

    def _next(self, client: str | None) -> asyncio.Protocol:
        """Return the protocol that follows the preamble, or begins the connection without one."""
        if self._certificate is None:
            return self._make(client)
        return Handshake(self._shake_hands, self._connections, client)

    def _shake_hands(self, handshake: Handshake, transport: asyncio.Transport) -> None:
        if self._certificate is None:  # without a certificate there is no handshake
            return
        task = asyncio.create_task(handshake.run(transport, self._certificate.context, self._make))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
