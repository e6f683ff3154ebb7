"""HTTP on one connection: heads are parsed, bodies never; invalid HTTP gets an error document."""

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
from mirror.upstream.errors import breach
from mirror.util.request_id import RequestIds
from mirror.web.connections.certificate import peer
from mirror.web.connections.client_connections import ClientConnections
from mirror.web.connections.request_body import RequestBody, body_announced
from mirror.web.connections.request_heads import RequestHeads
from mirror.web.connections.trusted_proxies import TrustedProxies
from mirror.web.error_reply import refusal
from mirror.web.instant_answers import InstantAnswers
from mirror.web.known_requests import KnownRequest
from mirror.web.request_keys import BEING_SENT, REQUEST_ID

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_LONGEST = 64 * 1024  # bytes of a request's head; a cloud's token takes a quarter at most
_AHEAD = 2  # requests parsed ahead: more would be parsed in one turn of the loop
_DROPPED = 64 * 1024  # bytes of a body that are read, so that no reset overtakes the answer


class Protocol(web.RequestHandler):
    """The HTTP protocol of one connection. Invalid requests get an error document, too.

    The registry API only serves reads, so the body of a request is never parsed: each tiny chunk
    would cost an object and a call (measured: ten connections held the loop for a second). A
    request with a body is answered like any other, and its connection closed, as the start of the
    next request is unknown. A request to upgrade to another protocol is treated alike. Only the
    `body` of a POST is taken, for the actions of operators: 64 KiB, and more as these are read.
    """

    def __init__(
        self,
        server: Listener,
        connections: ClientConnections,
        ids: RequestIds,
        client: str | None,
        instant: InstantAnswers | None = None,
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        super().__init__(server, **options)
        self._counted = connections
        self._ids = ids
        self._client = client
        self._heads = RequestHeads()
        self._dropped: int | None = None  # bytes, once no further requests are read
        self.body: RequestBody | None = None  # of the last request
        self.whole_head: tuple[object, bytes] | None = None  # a message that came alone, its bytes
        self._instant = instant
        self._unnamed: bool | None = None  # until that is looked up
        self._address = ""  # likewise
        self._max_msg_queue_size, self._msg_queue_resume_size = _AHEAD, _AHEAD - 1

    @property
    def _handler_waiter(self) -> asyncio.Future[None] | None:
        """The future that aiohttp's `shutdown` waits for, while it is pending.

        If its timeout ends in the same turn of the loop as the handler, aiohttp would set the
        result of a cancelled future, and fail (aiohttp 3.14; found by the fuzzer, at a stop).
        """
        waits = self._waits_for_handler
        return None if waits is None or waits.done() else waits

    @_handler_waiter.setter
    def _handler_waiter(self, waits: asyncio.Future[None] | None) -> None:
        self._waits_for_handler = waits

    def data_received(self, data: bytes) -> None:
        """Parse requests, one head at a time.

        aiohttp calls this without data when its queue has room for more requests again.
        """
        if self._dropped is not None:
            self._take(data)
            return
        known = None if self._instant is None else self._instant.find(data)
        if known is not None and self._answered_at_once(known):
            return
        if not self._messages and self._heads.is_one(data):
            super().data_received(data)
            if self._is_last():
                self._end_behind_it()
            elif len(self._messages) == 1:
                self.whole_head = self._messages[0][0], data
            return
        self._heads.add(data)
        while len(self._messages) < self._max_msg_queue_size and (piece := self._heads.next()):
            super().data_received(piece)
            if self._heads.unended > _LONGEST:
                self._refuse_head()
            if self._is_last():
                self._end_behind_it()
                return

    def _answered_at_once(self, known: KnownRequest) -> bool:
        """Answer a known request, and rearm the idle timer; False if it has to be parsed."""
        instant, transport = self._instant, self.transport
        if instant is None or transport is None or not self._is_ready(transport):
            return False
        began = self._loop.time()
        client = self._address = self._address or self._peer_address()
        answer = instant.answer(known, client) if client else None
        if answer is None:
            return False
        transport.write(answer.data)
        now = self._loop.time()
        self._next_keepalive_close_time = now + self._keepalive_timeout
        self._counted.answered(self)
        instant.done(known, answer, client, now - began)
        return True

    def _is_ready(self, transport: asyncio.Transport) -> bool:
        """Whether nothing is before a request that has come: neither on its way in nor out.

        aiohttp waits for a request then, and its timer of idle connections runs.
        """
        waiter = self._waiter
        return (
            waiter is not None
            and not waiter.done()
            and self._keepalive_handle is not None
            and self._heads.is_empty
            and not transport.get_write_buffer_size()
            and not transport.is_closing()
            and self._is_unnamed(transport)
        )

    def _is_unnamed(self, transport: asyncio.Transport) -> bool:
        """Whether the client has no certificate."""
        if self._unnamed is None:
            self._unnamed = peer(transport) is None
        return self._unnamed

    def _peer_address(self) -> str:
        """Return the client's address: the one a proxy has told, else its peer's."""
        peername = self.peername
        return str(peername[0]) if peername else ""

    def _is_last(self) -> bool:
        """Whether no request is read after the last parsed one."""
        if not self._messages:
            return False
        message, payload = self._messages[-1]
        return payload is not EMPTY_PAYLOAD or self._upgraded or isinstance(message, _ErrInfo)

    def _end_behind_it(self) -> None:
        """Treat the last request as one without a body, and drop all bytes that follow."""
        message, _ = self._messages[-1]
        if not isinstance(message, _ErrInfo):
            message = message._replace(should_close=True)
        self._messages[-1] = message, EMPTY_PAYLOAD
        self.body = body_announced(message, self.transport)
        self._dropped = 0
        self._take(self._heads.drop())

    def _refuse_head(self) -> None:
        """Refuse a request because of its long head."""
        message = f"a head of more than {_LONGEST} bytes"
        error = _ErrInfo(status=400, exc=RequestInvalid(message), message=message)
        self._messages.append((error, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self, data: bytes) -> None:
        """Leave received bytes to the body that is gathered, if there is one."""
        self._drop(len(data) if self.body is None else self.body.feed(data))

    def _drop(self, size: int) -> None:
        """Discard received bytes; reading pauses after `_DROPPED` of them."""
        self._dropped = (self._dropped or 0) + size
        if self._dropped > _DROPPED and self.transport is not None:
            self.transport.pause_reading()

    async def _handle_request(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Handler
    ) -> tuple[web.StreamResponse, bool]:
        """Log cut replies, too: aiohttp logs a reply only if it ends by itself."""
        try:
            return await super()._handle_request(request, start_time, request_handler)
        except asyncio.CancelledError:
            reply = request.get(BEING_SENT) or refusal(Stopped("its answer had not begun"))
            reply.cut()
            self.log_access(request, reply, start_time)
            raise
        finally:
            self.whole_head = None

    @property
    def peername(self) -> Any:  # noqa: ANN401 - aiohttp's, of several types
        """The client's address, in aiohttp's form: the one a proxy has told, if any."""
        return super().peername if self._client is None else (self._client, 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        super().connection_made(transport)
        self._counted.opened(self, cast("asyncio.Transport", transport), self._client)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop counting the connection."""
        self._counted.closed(self)
        if self.body is not None:
            self.body.end()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer and end the connection, as the start of the next request is unknown."""
        if REQUEST_ID not in request:  # the request was invalid: its id could not be read
            request[REQUEST_ID] = self._ids.take(None)
        if status != 400:
            return refusal(RegistryError(message or "the mirror failed"), last=True)
        reason = message if exc is None or isinstance(exc, RegistryError) else breach(exc)
        return refusal(RequestInvalid(f"not a valid HTTP request: {reason}"), last=True)


class Listener(web.Server):
    """The HTTP server: makes a protocol for each connection, and finds each request's client."""

    def __init__(
        self,
        handler: Handler,
        connections: ClientConnections,
        ids: RequestIds,
        instant: InstantAnswers | None = None,
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        trusted_proxies = connections.trusted_proxies
        super().__init__(
            handler, request_factory=_maker(trusted_proxies) if trusted_proxies else None, **options
        )
        self._counted = connections
        self._ids = ids
        self._instant = instant
        self._options = options

    def __call__(self, client: str | None = None) -> Protocol:
        """Make a protocol; `client` is the address that a proxy has told, if any."""
        loop = asyncio.get_running_loop()
        return Protocol(
            self, self._counted, self._ids, client, self._instant, loop=loop, **self._options
        )


def _maker(trusted_proxies: TrustedProxies) -> Callable[..., web.BaseRequest]:
    """Return aiohttp's factory of requests, each with its client's address."""

    def make(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        peer = protocol.peername
        address = str(peer[0]) if peer else ""
        remote = trusted_proxies.client(address, message.headers)
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, remote=remote)

    return make
