"""HTTP on one connection: heads are parsed, bodies never, and what is not HTTP is told so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

from mirror.oci.errors import RegistryError, RequestInvalid, Stopped
from mirror.request_id import RequestIds
from mirror.upstream.faults import breach
from mirror.web.connections import Connections
from mirror.web.fronts import Fronts
from mirror.web.heads import Heads
from mirror.web.refusal import refusal
from mirror.web.reply import BEING_SENT, REQUEST_ID

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_LONGEST = 64 * 1024  # bytes of a request's head; a token of a cloud's takes a quarter at most
_AHEAD = 2  # requests parsed before they are wanted: more would be one turn of the loop
_DROPPED = 64 * 1024  # bytes of a body that are taken, so that no reset overtakes the answer


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
        ids: RequestIds,
        client: str | None,
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        super().__init__(server, **options)
        self._counted = connections
        self._ids = ids
        self._client = client
        self._heads = Heads()
        self._dropped: int | None = None  # bytes, once no further request is read
        self._max_msg_queue_size, self._msg_queue_resume_size = _AHEAD, _AHEAD - 1

    @property
    def _handler_waiter(self) -> asyncio.Future[None] | None:
        """What aiohttp's `shutdown` waits for, while it does.

        Its patience may end in the turn of the loop in which the handler does, which then fails:
        it sets a result that was cancelled (aiohttp 3.14; found by the fuzzer, at a stop).
        """
        waits = self._waits_for_handler
        return None if waits is None or waits.done() else waits

    @_handler_waiter.setter
    def _handler_waiter(self, waits: asyncio.Future[None] | None) -> None:
        self._waits_for_handler = waits

    def data_received(self, data: bytes) -> None:
        """Have requests parsed, one head at a time.

        aiohttp calls it without data when there is room for more requests again.
        """
        if self._dropped is not None:
            self._drop(len(data))
            return
        if not self._messages and self._heads.is_one(data):
            super().data_received(data)
            if self._is_last():
                self._end_behind_it()
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

    async def _handle_request(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Handler
    ) -> tuple[web.StreamResponse, bool]:
        """Have what is cut be logged, too: aiohttp logs what comes to its own end."""
        try:
            return await super()._handle_request(request, start_time, request_handler)
        except asyncio.CancelledError:
            reply = request.get(BEING_SENT) or refusal(Stopped("its answer had not begun"))
            reply.cut()
            self.log_access(request, reply, start_time)
            raise

    @property
    def peername(self) -> Any:  # noqa: ANN401 - aiohttp's, of several types
        """Who it is from, as aiohttp takes it: whom a proxy has told, if one has."""
        return super().peername if self._client is None else (self._client, 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        super().connection_made(transport)
        self._counted.opened(self, cast("asyncio.Transport", transport), self._client)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it out."""
        self._counted.closed(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer and end the connection: who knows where the next request begins."""
        if REQUEST_ID not in request:  # nobody could read what it is
            request[REQUEST_ID] = self._ids.take(None)
        if status != 400:
            return refusal(RegistryError(message or "the mirror failed"), last=True)
        reason = message if exc is None or isinstance(exc, RegistryError) else breach(exc)
        return refusal(RequestInvalid(f"not a request that HTTP allows: {reason}"), last=True)


class Listener(web.Server):
    """Makes a protocol for each connection, and finds the client of each request."""

    def __init__(
        self,
        handler: Handler,
        connections: Connections,
        ids: RequestIds,
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        fronts = connections.fronts
        super().__init__(handler, request_factory=_maker(fronts) if fronts else None, **options)
        self._counted = connections
        self._ids = ids
        self._options = options

    def __call__(self, client: str | None = None) -> Protocol:
        """Make one; `client` is who it is from, where a proxy has told."""
        loop = asyncio.get_running_loop()
        return Protocol(self, self._counted, self._ids, client, loop=loop, **self._options)


def _maker(fronts: Fronts) -> Callable[..., web.BaseRequest]:
    """Return what makes requests of what aiohttp has read, each with its client's address."""

    def make(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        peer = protocol.peername
        address = str(peer[0]) if peer else ""
        remote = fronts.client(address, message.headers)
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, remote=remote)

    return make
