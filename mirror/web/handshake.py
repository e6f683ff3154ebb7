"""Handshakes: a connection counts from its first byte, and has so long to become one of TLS."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import cast

from mirror.upstream.faults import of_system
from mirror.web.connections import Connections, client_of

_log = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds
_GOODBYE = 5.0  # seconds for the other side to agree to the end
Make = Callable[[str | None], asyncio.Protocol]  # of a connection's client, where that was told


class Handshake(asyncio.Protocol):
    """A connection that is not yet one of TLS: it counts as idle.

    `client` is who it is from where a proxy has told. asyncio's own way calls the server when the
    handshake is done: connections that never begin would be counted by nobody, without bound.
    """

    def __init__(
        self,
        begin: Callable[[Handshake, asyncio.Transport], None],
        connections: Connections,
        client: str | None = None,
    ) -> None:
        self._begin = begin
        self._connections = connections
        self._client = client
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, and begin."""
        plain = cast("asyncio.Transport", transport)
        self._connections.opened(self, plain, self._client)
        if not plain.is_closing():  # there was room
            self._begin(self, plain)

    def data_received(self, data: bytes) -> None:
        """Keep what comes right behind the handshake."""
        self._early += data

    async def run(self, transport: asyncio.Transport, context: ssl.SSLContext, make: Make) -> None:
        """Shake hands, and leave the rest to the server's protocol."""
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
            _log.info("no TLS with %s: %s", client_of(transport, self._client), of_system(error))
            return
        finally:
            self._connections.closed(self)
        if encrypted is None or encrypted.is_closing():
            return
        protocol = make(self._client)
        encrypted.set_protocol(protocol)
        protocol.connection_made(encrypted)
        if self._early:
            protocol.data_received(self._early)
