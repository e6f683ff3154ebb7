"""Connections that a proxy begins with its client's address: the PROXY protocol's receiver."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from mirror.web.connections import Connections, client_of
from mirror.web.fronts import Fronts
from mirror.web.handshake import Make
from mirror.web.preamble import Preamble, PreambleError

_log = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds for a preamble, from the first byte of the connection to its last


class Announced(asyncio.BufferedProtocol):
    """A connection whose preamble has not come yet: it counts as idle, and as its proxy's.

    Of the bytes that arrive no more are taken from the kernel than the preamble has: what follows
    it belongs to TLS, or to the server. Whoever is no proxy of ours sends none, and is passed on.
    """

    def __init__(self, following: Make, connections: Connections, fronts: Fronts) -> None:
        self._following = following
        self._connections = connections
        self._fronts = fronts
        self._preamble = Preamble()
        self._buffer = bytearray()
        self._deadline: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        return f"<Announced: {self._preamble}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, or pass it on."""
        self._transport = plain = cast("asyncio.Transport", transport)
        if not self._fronts.trusts(client_of(plain, None)):
            self._pass_on(plain, None)
            return
        self._deadline = asyncio.get_running_loop().call_later(_PATIENCE, self._late)
        self._connections.opened(self, plain)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - as asyncio has it
        """Return room for what is still wanted, and not for a byte more."""
        self._buffer = bytearray(self._preamble.wanted)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read what has come."""
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
        """Count it out. One that says nothing at all is a balancer's look whether we listen.

        One that had to go for others did not break off.
        """
        if self._preamble.begun and self._preamble.wanted and self in self._connections:
            self._tell("it broke off")
        self._end()

    def _late(self) -> None:
        self._refuse(f"it has not come in {_PATIENCE:g} s")

    def _refuse(self, reason: str) -> None:
        self._tell(reason)
        self._preamble = Preamble()
        if self._transport is not None:
            self._transport.abort()

    def _tell(self, reason: str) -> None:
        peer = "somebody" if self._transport is None else client_of(self._transport, None)
        _log.warning("no PROXY preamble from %s, which is in trusted_proxies: %s", peer, reason)

    def _pass_on(self, transport: asyncio.Transport, client: str | None) -> None:
        protocol = self._following(client)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def _end(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._connections.closed(self)
