"""Client connections: the limits on their number, and the closing of idle ones."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from aiohttp import web

from mirror.identity.address import one_client
from mirror.web.connections.per_client import ConnectionsByClient
from mirror.web.connections.trusted_proxies import TrustedProxies

BACKLOG = 4096
# Unsent bytes that the kernel queues per connection. Without it, megabytes wait there, copies
# leave the CPU's cache, and a slow reader pins memory (measured: 2.6 GB/s before, 3.1-4.0 after).
_TCP_NOTSENT_LOWAT = 25
_UNSENT = 128 * 1024
_SETTLED = 5.0  # seconds after which an idle connection probably stays idle


class _Open(NamedTuple):
    client: str
    transport: asyncio.Transport
    idle: OrderedDict[object, float]  # its client's idle connections, and since when
    proxy: str = ""  # the trusted proxy that opened it, if any


class ClientConnections:
    """The open connections: `max_connections`, and of one client `client_connections`, if not 0.

    A connection beyond `max_connections` replaces the connection that has been idle for longest.
    Without an idle one it replaces the newest of the client that holds the most, if that client
    holds more than the newcomer's; otherwise the new connection is closed: it would wait for ever.
    A connection beyond `client_connections` replaces only connections of its client, and only after
    they have been idle for a while: a whole fleet may stand behind one address, and connections
    that were opened together are each about to send a request.

    A trusted proxy's connection counts for the client of its request while that is answered. Idle,
    it counts for the proxy, which `client_connections` does not limit.
    """

    def __init__(
        self,
        max_connections: int,
        client_connections: int = 0,
        clock: Callable[[], float] = time.monotonic,
        trusted_proxies: TrustedProxies | None = None,
    ) -> None:
        self.max_connections = max_connections
        self.client_connections = client_connections
        self.shed = 0
        self.trusted_proxies = trusted_proxies
        self._clock = clock
        self._open: dict[object, _Open] = {}
        self._idle: OrderedDict[object, None] = OrderedDict()
        self._idle_of: dict[str, OrderedDict[object, float]] = {}
        self._by_client: ConnectionsByClient[object] = ConnectionsByClient()
        self._none = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, connection: object) -> bool:
        """Whether a connection is open, and was not closed to make room."""
        return connection in self._open

    def __repr__(self) -> str:
        most, idle = self.max_connections, len(self._idle)
        return f"<ClientConnections: {len(self)} of at most {most}, {idle} idle>"

    def opened(
        self, connection: object, transport: asyncio.Transport, client: str | None = None
    ) -> None:
        """Count a new connection, and close another if necessary.

        `client` is the address that a proxy has told, if any.
        """
        address = client_of(transport, client)
        owner = one_client(address)
        proxy = (
            owner
            if self.trusted_proxies is not None and self.trusted_proxies.trusts(address)
            else ""
        )
        self._none.clear()
        found = self._enter(connection, _Open(owner, transport, OrderedDict(), proxy))
        self._rest(connection, found)
        if len(self._open) > self.max_connections:
            self._let_go(self._least_needed(owner))
        elif (
            self.client_connections
            and not proxy
            and self._by_client.count(owner) > self.client_connections
        ):
            self._let_go_of_own(owner, found.idle)

    def busy(self, request: web.BaseRequest) -> None:
        """Record that a request is being answered on its connection."""
        if (found := self._open.get(request.protocol)) is not None:
            self._stir(request.protocol, found)
            if found.proxy:
                self._hand_over(request.protocol, found, one_client(request.remote or ""))

    def rest(self, request: web.BaseRequest) -> None:
        """Record that a request was answered: its connection is idle."""
        if (found := self._open.get(request.protocol)) is not None:
            if found.proxy:
                found = self._hand_over(request.protocol, found, found.proxy)
            self._rest(request.protocol, found)

    def answered(self, connection: object) -> None:
        """Record that a request was answered as soon as it came: its connection was idle again."""
        if (found := self._open.get(connection)) is not None:
            self._stir(connection, found)
            self._rest(connection, found)

    def closed(self, connection: object) -> None:
        """Stop counting a connection."""
        found = self._open.pop(connection, None)
        if found is None:  # it was closed to make room
            return
        self._stir(connection, found)
        self._leave(connection, found.client)
        if not self._open:
            self._none.set()

    def _enter(self, connection: object, found: _Open) -> _Open:
        """Count a connection for its client; returns its new record."""
        idle = self._idle_of.setdefault(found.client, OrderedDict())
        found = self._open[connection] = found._replace(idle=idle)
        self._by_client.add(found.client, connection)
        return found

    def _leave(self, connection: object, client: str) -> None:
        self._by_client.remove(client, connection)
        if not self._by_client.count(client):
            del self._idle_of[client]

    def _hand_over(self, connection: object, found: _Open, client: str) -> _Open:
        """Count a busy connection for another client; returns its new record."""
        if client == found.client:
            return found
        self._leave(connection, found.client)
        return self._enter(connection, found._replace(client=client))

    def _rest(self, connection: object, found: _Open) -> None:
        self._idle[connection] = None
        found.idle[connection] = self._clock()

    def _stir(self, connection: object, found: _Open) -> None:
        self._idle.pop(connection, None)
        found.idle.pop(connection, None)

    def _let_go_of_own(self, client: str, idle: OrderedDict[object, float]) -> None:
        """Close a client's surplus connections, longest idle first, except recent ones."""
        settled = self._clock() - _SETTLED
        while idle and self._by_client.count(client) > self.client_connections:
            longest, since = next(iter(idle.items()))
            if since > settled:
                break
            self._let_go(longest)

    def _least_needed(self, client: str) -> object:
        """Return the connection to close for a client's new one, which is itself the last idle."""
        if len(self._idle) == 1:
            holder = self._by_client.largest()
            if self._by_client.count(holder) > self._by_client.count(client):
                return self._by_client.newest(holder)
        return next(iter(self._idle))

    def _let_go(self, connection: object) -> None:
        transport, idle = self._open[connection].transport, connection in self._idle
        self.closed(connection)
        self.shed += 1
        if idle:
            transport.abort()
        else:
            _hang_up(transport)

    def close_idle(self) -> None:
        """Close idle connections, each after the last byte of its answer."""
        for connection in [*self._idle]:
            self._open[connection].transport.close()

    def transfers(self) -> int:
        """Return the number of connections with an answer under way, or not yet taken."""
        return sum(
            connection not in self._idle or found.transport.get_write_buffer_size() > 0
            for connection, found in self._open.items()
        )

    def hang_up(self) -> list[tuple[str, int]]:
        """Abort all connections, with the bytes that are still unsent.

        Returns the clients that had not taken all that counts as sent, with their missing bytes.
        """
        left = [
            (found.client, unsent)
            for connection, found in self._open.items()
            if connection in self._idle and (unsent := found.transport.get_write_buffer_size())
        ]
        for found in self._open.values():
            found.transport.abort()
        return left

    async def gone(self) -> None:
        """Wait until no connection is open: all answers have then left, to the last byte."""
        if self._open:
            await self._none.wait()


def client_of(transport: asyncio.Transport, announced: str | None) -> str:
    """Return the address of a connection's client: the one a proxy has told, else its peer's."""
    if announced is not None:
        return announced
    address = transport.get_extra_info("peername")
    return str(address[0]) if address else ""


def _hang_up(transport: asyncio.Transport) -> None:
    """End a connection with an answer under way, as if the client had left.

    If the transport were closed instead, a running sendfile would wait for ever.
    """
    with suppress(OSError):  # the client has left already
        transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def listen(host: str, port: int, client_timeout: float) -> socket.socket:
    """Bind and listen; raises OSError.

    `client_timeout` is the time, in seconds, after which the kernel gives up a client that takes
    none of the sent bytes, or has vanished (TCP_USER_TIMEOUT, RFC 5482). Accepted sockets inherit
    all options.
    """
    listener = bound(host, port)
    try:
        listener.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT)
        listener.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _milliseconds(client_timeout)
        )
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def bound(host: str, port: int) -> socket.socket:
    """Bind an address, without listening yet; raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _milliseconds(seconds: float) -> int:
    """Return milliseconds, at most what fits the option; 0 leaves the time to the kernel."""
    return min(math.ceil(seconds * 1000), 2**31 - 1)
