"""The receiver of the PROXY protocol: a proxy begins a connection with its client's address."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from mirror.web.connections.client_connections import ClientConnections, client_of
from mirror.web.connections.proxy_preamble import Preamble, PreambleError
from mirror.web.connections.tls_handshake import Make
from mirror.web.connections.trusted_proxies import TrustedProxies

_log = logging.getLogger(__name__)

_PREAMBLE_TIMEOUT = 10.0  # seconds, from the first byte of the connection to the preamble's last


class ProxyReceiver(asyncio.BufferedProtocol):
    """A connection with an incomplete preamble: it counts as idle, and as its proxy's.

    No bytes behind the preamble are read from the kernel: they belong to TLS, or to the server. A
    peer that is not a trusted proxy sends no preamble: its connection is passed on at once.
    """

    def __init__(
        self, following: Make, connections: ClientConnections, trusted_proxies: TrustedProxies
    ) -> None:
        self._following = following
        self._connections = connections
        self._trusted_proxies = trusted_proxies
        self._preamble = Preamble()
        self._buffer = bytearray()
        self._deadline: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        return f"<ProxyReceiver: {self._preamble}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection of a trusted proxy; pass on any other."""
        self._transport = plain = cast("asyncio.Transport", transport)
        if not self._trusted_proxies.trusts(client_of(plain, None)):
            self._pass_on(plain, None)
            return
        self._deadline = asyncio.get_running_loop().call_later(_PREAMBLE_TIMEOUT, self._late)
        self._connections.opened(self, plain)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - as asyncio has it
        """Return a buffer of the size that the preamble may still have, and no more."""
        self._buffer = bytearray(self._preamble.wanted)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse the received bytes; pass the connection on after the last of the preamble."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        try:
            self._preamble.add(bytes(self._buffer[:nbytes]))
        except PreambleError as error:
            self._refuse(str(error))
            return
        if not self._preamble.wanted:
            self._end()
            self._pass_on(transport, self._preamble.client)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - as asyncio has it
        """Stop counting the connection; an incomplete preamble is logged.

        A connection without a byte is a load balancer's health check, and is not logged. Nor is a
        connection that was closed to make room for others.
        """
        if self._preamble.begun and self._preamble.wanted and self in self._connections:
            self._tell("it broke off")
        self._end()

    def _late(self) -> None:
        self._refuse(f"it did not arrive within {_PREAMBLE_TIMEOUT:g} s")

    def _refuse(self, reason: str) -> None:
        self._tell(reason)
        self._preamble = Preamble()
        if self._transport is not None:
            self._transport.abort()

    def _tell(self, reason: str) -> None:
        peer = "an unknown address" if self._transport is None else client_of(self._transport, None)
        _log.warning("no PROXY preamble from %s, which is in trusted_proxies: %s", peer, reason)

    def _pass_on(self, transport: asyncio.Transport, client: str | None) -> None:
        protocol = self._following(client)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def _end(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._connections.closed(self)
