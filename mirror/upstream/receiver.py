"""The receiver: bounds the time that parsing upstream's bytes blocks the event loop.

aiohttp parses all bytes of a socket read at once. A read is a quarter of a mebibyte; made of
one-byte chunks, or of many responses in place of one, it takes a fifth of a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import aiohttp
from aiohttp import hdrs, http
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from mirror.upstream.leases import Leases

_SLICE = 4096  # bytes per slice of dense data: a thousand chunks
_LARGEST = 16 * 1024  # bytes of the largest slice, after cheap ones: 13 ms for one-byte chunks
_DENSE = 2048  # line ends per read that make it dense; random bytes have half as many
_TURN = 0.001  # seconds of parsing before yielding to other tasks
# Seconds per byte that make data expensive, and rationed: chunks of some eighty bytes, measured.
# Text, with lines that end as chunks do, takes a fiftieth of it.
_DEAR = 1e-7
_REST = 3.0  # pause after expensive slices, as a multiple of their time
# Informational responses before the final one (RFC 9110, 15.2). Registries send none, content
# networks one or two (103); Go's clients accept as many as fit their bound for headers.
_MOST_EARLY = 32
# Bytes of a response's head, informational responses included: the limit of Go's servers for a
# request, and three times curl's. Go's clients accept ten times as many.
_LONGEST_HEAD = 1024 * 1024
_LENGTH = b"content-length:"


class NoCookies(aiohttp.DummyCookieJar):
    """A cookie jar that keeps and parses none: aiohttp's own parses each Set-Cookie to drop it.

    Registry clients keep no cookies either.
    """

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        """Do nothing."""


class Slices:
    """Schedules the parsing of dense data on all connections of an upstream, slice by slice.

    Expensive connections together take a fixed part of the loop's time, each in its turn.
    """

    def __init__(self) -> None:
        self._waiting: deque[Receiver] = deque()
        self._next: asyncio.Handle | None = None

    def __repr__(self) -> str:
        return f"<Slices: {len(self._waiting)} connections wait>"

    def add(self, receiver: Receiver) -> None:
        """Queue a connection's next slice."""
        if receiver not in self._waiting:
            self._waiting.append(receiver)
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._next = None
        if not self._waiting:
            return
        receiver = self._waiting.popleft()
        before = receiver.parsed
        took = -time.thread_time()  # CPU time, without waiting for a CPU
        while (more := receiver.parse_slice()) and took + time.thread_time() < _TURN:
            pass
        took += time.thread_time()
        if more:
            self._waiting.append(receiver)
        dear = took > max(receiver.parsed - before, _SLICE) * _DEAR
        receiver.cut(larger=not dear)
        loop = asyncio.get_running_loop()
        if dear:
            self._next = loop.call_later(_REST * took, self._step)
        else:
            self._next = loop.call_soon(self._step)


class Receiver(ResponseHandler):
    """A connection that parses dense data in slices, and other data at once.

    A body of known length is not parsed by line, so its bytes are not inspected. While slices are
    queued, or the body's reader is behind, the transport is paused. `parsed` counts the bytes
    parsed in slices. Slices grow while they are cheap, as for text: each costs a call (measured: 48
    MiB of lines in chunks of 64 KiB took 0.2 s, without slices 0.1 s).
    """

    def __init__(self, slices: Slices, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._slices = slices
        self._held: deque[bytes] = deque()
        self._at = 0  # parsed bytes of the first held piece
        self._slice = _SLICE
        self.parsed = 0
        self._ended = False  # closed by the peer, after the held bytes
        self._chunked = True
        self._length: int | None = None
        self._answered = self._refused = False
        self._early = 0
        self._head = 0  # bytes

    @property
    def should_close(self) -> bool:
        """Whether the connection must not be reused."""
        return super().should_close or bool(self._held)

    def set_response_params(self, **params: Any) -> None:  # noqa: ANN401 - aiohttp's own
        """Prepare for the response to a new request."""
        self._answered = False
        self._early = self._head = 0
        super().set_response_params(**params)

    def feed_data(self, data: tuple[Any, Any], size: int = 0) -> None:
        """Take the headers of a response."""
        message = data[0]
        if self._answered or self._early > _MOST_EARLY:
            self._refuse("too many informational responses")
            return
        self._answered = message.code >= 200
        self._early += 1
        length = message.headers.get(hdrs.CONTENT_LENGTH, "")
        self._chunked = message.chunked
        self._length = int(length) if length else None  # the parser accepts digits only
        super().feed_data(data, size)

    def _refuse(self, why: str) -> None:
        """Close the connection after a protocol violation; a delivered response stays valid."""
        self._refused = True
        self._held.clear()
        if not self._answered:
            self.set_exception(http.HttpProcessingError(message=why))
        self.force_close()
        if self.transport is not None:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse the received bytes, or hold them until their turn."""
        if self._refused:
            return
        if self._parser is not None and not (self._answered or self._head or self._held):
            data = _with_one_length(data)
        if self._held and data:
            self._hold(data)
        elif self._parser is None or self._is_plain(len(data)) or data.count(b"\n") <= _DENSE:
            self._parse(data)
        else:
            self._hold(data)

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        if self.exception() is not None:
            self._held.clear()  # otherwise the end of the connection would wait for them
        if self._parser is None or self._answered:
            return
        self._head += len(data)
        if self._head > _LONGEST_HEAD:
            self._refuse("the response head is too long")

    def _is_plain(self, count: int) -> bool:
        """Whether the next bytes are body bytes that need no parsing."""
        body = self._payload
        if body is None or self._chunked or body.is_eof():
            return False
        return self._length is None or self._length - body.total_bytes >= count

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._drop_timeout()
        self._pause_reading_for_buffer()
        self._slices.add(self)

    def parse_slice(self) -> bool:
        """Parse one slice; returns whether another can follow now."""
        if self._reading_paused:
            return False  # resumed when the body's reader has caught up
        if self._held:
            self._parse(self._next())
        if self._held:
            return not self._reading_paused
        if self._ended:
            super().connection_lost(None)
        elif self._buffer_paused:
            self._resume_reading_for_buffer()
        return False

    def _next(self) -> bytes:
        data = self._held[0]
        piece = data[self._at : self._at + self._slice]
        self._at += len(piece)
        if self._at >= len(data):
            self._held.popleft()
            self._at = 0
        self.parsed += len(piece)
        return piece

    def cut(self, *, larger: bool) -> None:
        """Set the size of the next slices: larger, or as small as the first."""
        self._slice = min(2 * self._slice, _LARGEST) if larger else _SLICE

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Continue after the body's reader has caught up."""
        super().resume_reading(resume_parser)
        if self._held and not self._reading_paused:
            self._slices.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the connection, after the held bytes if the peer closed it."""
        if self._held and exc is None and self.transport is not None:
            self._ended = True
            return
        self._held.clear()
        super().connection_lost(exc)


def _with_one_length(data: bytes) -> bytes:
    """Remove duplicates of Content-Length from a head that arrived in one read.

    RFC 9110, 8.6, allows this, and Go's clients do it; aiohttp's parser refuses duplicates.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0 or data[:end].lower().count(b"\r\n" + _LENGTH) < 2:
        return data
    lines = data[:end].split(b"\r\n")
    lengths = [line for line in lines if line.lower().startswith(_LENGTH)]
    if len({line[len(_LENGTH) :].strip(b" \t") for line in lengths}) > 1:
        return data
    others = [line for line in lines if not line.lower().startswith(_LENGTH)]
    return b"\r\n".join([*others, lengths[0]]) + data[end:]


class Connector(aiohttp.TCPConnector):
    """Creates connections that parse dense data in slices.

    Each connection is one of the `leases` while it is in use.
    """

    def __init__(
        self,
        slices: Slices,
        leases: Leases,
        **kwargs: Any,  # noqa: ANN401 - aiohttp's own
    ) -> None:
        super().__init__(**kwargs)
        factory: Any = partial(Receiver, slices, loop=self._loop)
        self._factory = factory
        self._leases = leases

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Create or reuse a connection."""
        connection = await super().connect(req, traces, timeout)
        self._leases.take()
        connection.add_callback(self._leases.give)
        return connection
