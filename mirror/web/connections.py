"""Clients' connections: how many there may be, and for how long one may do nothing."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple, cast

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from mirror.cache.address import one_client
from mirror.oci.errors import RegistryError, RequestInvalid
from mirror.web.crowd import Crowd
from mirror.web.heads import Heads
from mirror.web.refusal import refusal

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

BACKLOG = 4096
# Unsent bytes that the kernel queues per connection. Without it, megabytes wait there, copies
# leave the CPU's cache, and a slow reader pins memory (measured: 2.6 GB/s before, 3.1-4.0 after).
_TCP_NOTSENT_LOWAT = 25
_UNSENT = 128 * 1024
_LONGEST = 64 * 1024  # bytes of a request's head; a token of a cloud's takes a quarter at most
_AHEAD = 2  # requests parsed before they are wanted: more would be one turn of the loop
_DROPPED = 64 * 1024  # bytes of a body that are taken, so that no reset overtakes the answer


class _Open(NamedTuple):
    client: str
    transport: asyncio.Transport


class Connections:
    """All that are open: `most` at a time, and `each` of one client, if that is not 0.

    For one more another makes room: the one that has been idle for longest. Where none is idle, it
    is the newest of the client that holds the most, if that holds more than the one who comes;
    else the new one itself is closed: it would wait for ever. Beyond `each` only the client's
    own make room.
    """

    def __init__(self, most: int, each: int = 0) -> None:
        self.most = most
        self.each = each
        self.shed = 0
        self._open: dict[object, _Open] = {}
        self._idle: OrderedDict[object, None] = OrderedDict()
        self._crowd: Crowd[object] = Crowd()
        self._none = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Connections: {len(self)} of at most {self.most}, {len(self._idle)} idle>"

    def opened(self, connection: object, transport: asyncio.Transport) -> None:
        """Take one in, and let go of another if need be."""
        client = _client(transport)
        self._none.clear()
        self._open[connection] = _Open(client, transport)
        self._idle[connection] = None
        self._crowd.add(client, connection)
        if self.each and self._crowd.count(client) > self.each:
            self._let_go(self._own_idle(client))
        elif len(self._open) > self.most:
            self._let_go(self._least_needed(client))

    def busy(self, request: web.BaseRequest) -> None:
        """Note that a request is being answered."""
        self._idle.pop(request.protocol, None)

    def rest(self, request: web.BaseRequest) -> None:
        """Note that it has been."""
        if request.protocol in self._open:
            self._idle[request.protocol] = None

    def closed(self, connection: object) -> None:
        """Note that one is gone."""
        found = self._open.pop(connection, None)
        if found is None:  # it had to go
            return
        self._idle.pop(connection, None)
        self._crowd.remove(found.client, connection)
        if not self._open:
            self._none.set()

    def _own_idle(self, client: str) -> object:
        """Return the oldest of a client's that is idle: if need be the newest, which always is."""
        return next(each for each in self._crowd.of(client) if each in self._idle)

    def _least_needed(self, client: str) -> object:
        """Return what makes room for a client's newest, which is itself the last idle."""
        if len(self._idle) == 1:
            holder = self._crowd.largest()
            if self._crowd.count(holder) > self._crowd.count(client):
                return self._crowd.newest(holder)
        return next(iter(self._idle))

    def _let_go(self, connection: object) -> None:
        transport, idle = self._open[connection].transport, connection in self._idle
        self.closed(connection)
        self.shed += 1
        if idle:
            transport.abort()
        else:
            _hang_up(transport)

    async def gone(self) -> None:
        """Wait until none is open: what was answered has then left, to the last byte."""
        if self._open:
            await self._none.wait()


def _client(transport: asyncio.Transport) -> str:
    address = transport.get_extra_info("peername")
    return one_client(address[0]) if address else ""


def _hang_up(transport: asyncio.Transport) -> None:
    """End a connection on which somebody sends, as if the client had left.

    To close the transport would leave a sendfile that runs on it waiting for ever.
    """
    with suppress(OSError):  # it has left, indeed
        transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class Protocol(web.RequestHandler):
    """One connection. What is not HTTP gets an error document too.

    A mirror is only read from, so that nobody wants the body of a request: it is never parsed. Of
    tiny chunks, each is an object and a call (measured: ten connections held the loop for a
    second). Such a request is answered like any other, and its connection closed: it is not for
    us to say where the next one begins. The same goes for one that asks for another protocol.
    """

    def __init__(
        self,
        server: Listener,
        connections: Connections,
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        super().__init__(server, **options)
        self._counted = connections
        self._heads = Heads()
        self._dropped: int | None = None  # bytes, once no further request is read
        self._max_msg_queue_size, self._msg_queue_resume_size = _AHEAD, _AHEAD - 1

    def data_received(self, data: bytes) -> None:
        """Have requests parsed, one head at a time.

        aiohttp calls it without data when there is room for more requests again.
        """
        if self._dropped is not None:
            self._drop(len(data))
            return
        self._heads.add(data)
        while len(self._messages) < self._max_msg_queue_size and (piece := self._heads.next()):
            super().data_received(piece)
            if self._heads.unended > _LONGEST:
                self._refuse_head()
            if self._is_last():
                self._end_behind_it()
                return

    def _is_last(self) -> bool:
        """Whether nothing is to be read behind what has been read last."""
        if not self._messages:
            return False
        message, payload = self._messages[-1]
        return payload is not EMPTY_PAYLOAD or self._upgraded or isinstance(message, _ErrInfo)

    def _end_behind_it(self) -> None:
        """Have it answered as a request without a body, and drop all that follows."""
        message, _ = self._messages[-1]
        if not isinstance(message, _ErrInfo):
            message = message._replace(should_close=True)
        self._messages[-1] = message, EMPTY_PAYLOAD
        self._dropped = self._heads.drop()

    def _refuse_head(self) -> None:
        """Refuse what goes on for too long before it is a request."""
        message = f"a head of more than {_LONGEST} bytes"
        error = _ErrInfo(status=400, exc=RequestInvalid(message), message=message)
        self._messages.append((error, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _drop(self, size: int) -> None:
        """Take what comes as if it were read, but not for ever."""
        self._dropped = (self._dropped or 0) + size
        if self._dropped > _DROPPED and self.transport is not None:
            self.transport.pause_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        super().connection_made(transport)
        self._counted.opened(self, cast("asyncio.Transport", transport))

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
