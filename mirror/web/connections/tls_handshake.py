"""TLS handshakes: a connection counts from its first byte, and its handshake has a time limit."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from mirror.oci.errors import RegistryError, RequestInvalid
from mirror.upstream.errors import of_system
from mirror.web.connections.client_connections import ClientConnections, client_of
from mirror.web.error_reply import whole_answer

_log = logging.getLogger(__name__)

_PLAIN = frozenset({"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"})  # OpenSSL's reasons for plain HTTP
_SPEAKS_TLS = RequestInvalid("plain HTTP was sent to a port that speaks TLS: use https://")
_PIECE, _PIECES = 64 * 1024, 4  # bytes per read, and number of reads
_HANDSHAKE_TIMEOUT = 10.0  # seconds
_GOODBYE = 5.0  # seconds for the client to confirm the end
Make = Callable[[str | None], asyncio.Protocol]  # takes the client that a proxy has told, if any


class Handshake(asyncio.Protocol):
    """A connection during its TLS handshake: it counts as idle.

    `client` is the address that a proxy has told, if any. asyncio would call the server only after
    the handshake: connections that never begin theirs would not be counted, nor bounded.
    """

    def __init__(
        self,
        begin: Callable[[Handshake, asyncio.Transport], None],
        connections: ClientConnections,
        client: str | None = None,
    ) -> None:
        self._begin = begin
        self._connections = connections
        self._client = client
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and begin the handshake."""
        plain = cast("asyncio.Transport", transport)
        self._connections.opened(self, plain, self._client)
        if not plain.is_closing():  # not closed by the limit
            self._begin(self, plain)

    def data_received(self, data: bytes) -> None:
        """Keep bytes that arrive right after the handshake."""
        self._early += data

    async def run(self, transport: asyncio.Transport, context: ssl.SSLContext, make: Make) -> None:
        """Run the handshake, and hand the connection to the server's protocol."""
        try:
            encrypted = await self._shaken(transport, context)
        except OSError as error:  # SSLError, ConnectionError and TimeoutError included
            _log.info("%s", _message(client_of(transport, self._client), error))
            transport.abort()
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

    async def _shaken(
        self, transport: asyncio.Transport, context: ssl.SSLContext
    ) -> asyncio.Transport | None:
        """Return the encrypted connection; raises OSError. Plain HTTP is answered with an error.

        asyncio closes the transport of a failed handshake: a second descriptor keeps the connection
        open until the answer is sent.
        """
        with transport.get_extra_info("socket").dup() as second:
            try:
                return await asyncio.get_running_loop().start_tls(
                    transport,
                    self,
                    context,
                    server_side=True,
                    ssl_handshake_timeout=_HANDSHAKE_TIMEOUT,
                    ssl_shutdown_timeout=_GOODBYE,
                )
            except ssl.SSLError as error:
                if _is_plain_http(error):
                    _answer(second, _SPEAKS_TLS)
                raise


def _is_plain_http(error: OSError) -> bool:
    return isinstance(error, ssl.SSLError) and error.reason in _PLAIN


def _message(client: str, error: OSError) -> str:
    if _is_plain_http(error):
        return f"plain HTTP from {client}, where TLS is served: answered with 400"
    return f"no TLS with {client}: {of_system(error)}"


def _answer(connection: socket.socket, error: RegistryError) -> None:
    """Send an error without waiting: it fits into the kernel's buffer.

    Received bytes are read first: otherwise the close is a reset, which may overtake the answer.
    """
    connection.setblocking(False)
    with suppress(OSError):  # nothing more to read, or the client has left
        for _ in range(_PIECES):
            if not connection.recv(_PIECE):
                break
    with suppress(OSError):
        connection.send(whole_answer(error))
        connection.shutdown(socket.SHUT_WR)
