"""The receiver: what the bytes of an upstream may cost the event loop at a time.

aiohttp parses all that a socket gave at once. That is a quarter of a mebibyte, and where it is made
of chunks of a byte, or of many answers in the place of one, it takes a fifth of a second.
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

_SLICE = 4096  # bytes that are parsed at a time where they are dense: a thousand chunks
_LARGEST = 16 * 1024  # bytes of a slice behind cheap ones: 13 ms where it is of chunks of a byte
_DENSE = 2048  # ends of lines beyond which bytes are; random ones have half of them in a read
_TURN = 0.001  # seconds, after which others have theirs
# Seconds for a byte, above which its like are rationed: chunks of some eighty bytes, measured.
# Text, whose lines end as chunks do, takes a fiftieth of it.
_DEAR = 1e-7
_REST = 3.0  # times as long as dear ones took, the next wait: others have most of the loop
# Answers before the real one (RFC 9110, 15.2). Registries send none, content networks one or two
# (103); Go's clients take as many as fit their bound for headers.
_MOST_EARLY = 32
# Bytes of an answer's head, with those of the answers before it: all that Go's servers take of a
# request's, and three times what curl takes. Go's clients take ten times as many.
_LONGEST_HEAD = 1024 * 1024
_LENGTH = b"content-length:"


class NoCookies(aiohttp.DummyCookieJar):
    """Keeps no cookies, and reads none: aiohttp's own parses each Set-Cookie before it is dropped.

    Clients of registries keep none either.
    """

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        """Do nothing."""


class Slices:
    """Lets the connections of an upstream that hold dense bytes parse these, a slice at a time.

    All of those that are dear together take a part of the loop's time and no more, each in its
    turn.
    """

    def __init__(self) -> None:
        self._waiting: deque[Receiver] = deque()
        self._next: asyncio.Handle | None = None

    def __repr__(self) -> str:
        return f"<Slices: {len(self._waiting)} connections wait>"

    def add(self, receiver: Receiver) -> None:
        """Have a connection's next slice parsed when its turn comes."""
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
        took = -time.thread_time()  # without the time that a CPU was waited for
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
    """A connection. What is dense in what arrives is parsed in slices, the rest at once.

    A body whose length is told is parsed by no line, so that its bytes are not looked at. While
    slices wait, and while the body's reader is behind, the transport is paused. `parsed` is
    how many bytes came in slices.

    Slices grow while they are cheap, as those of text are: each costs a call (measured: 48 MiB of
    lines in chunks of 64 KiB took 0.2 s, as against 0.1 s without any).
    """

    def __init__(self, slices: Slices, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._slices = slices
        self._held: deque[bytes] = deque()
        self._at = 0  # bytes of the first of them that have been parsed
        self._slice = _SLICE
        self.parsed = 0
        self._ended = False  # by the peer, behind what is held
        self._chunked = True
        self._length: int | None = None
        self._answered = self._refused = False
        self._early = 0
        self._head = 0  # bytes

    @property
    def should_close(self) -> bool:
        """Whether nothing more may be asked on this connection."""
        return super().should_close or bool(self._held)

    def set_response_params(self, **params: Any) -> None:  # noqa: ANN401 - aiohttp's own
        """Expect the answer to a question."""
        self._answered = False
        self._early = self._head = 0
        super().set_response_params(**params)

    def feed_data(self, data: tuple[Any, Any], size: int = 0) -> None:
        """Take an answer's headers."""
        message = data[0]
        if self._answered or self._early > _MOST_EARLY:
            self._refuse("too many informational answers")
            return
        self._answered = message.code >= 200
        self._early += 1
        length = message.headers.get(hdrs.CONTENT_LENGTH, "")
        self._chunked = message.chunked
        self._length = int(length) if length else None  # the parser takes digits only
        super().feed_data(data, size)

    def _refuse(self, why: str) -> None:
        """Hang up: there is one answer to a question. One that has come stays good."""
        self._refused = True
        self._held.clear()
        if not self._answered:
            self.set_exception(http.HttpProcessingError(message=why))
        self.force_close()
        if self.transport is not None:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, or hold it until its turn."""
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
            self._held.clear()  # or the end of the connection would wait behind it
        if self._parser is None or self._answered:
            return
        self._head += len(data)
        if self._head > _LONGEST_HEAD:
            self._refuse("too long a head")

    def _is_plain(self, count: int) -> bool:
        """Whether the next bytes are of a body, and parsed by nothing."""
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
        """Parse one slice; returns whether the next one may follow."""
        if self._reading_paused:
            return False  # until the body's reader has caught up
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
        """Cut the next slices larger, or as small as the first ones."""
        self._slice = min(2 * self._slice, _LARGEST) if larger else _SLICE

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on where the body's reader has caught up."""
        super().resume_reading(resume_parser)
        if self._held and not self._reading_paused:
            self._slices.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, behind what is held where it was the peer who hung up."""
        if self._held and exc is None and self.transport is not None:
            self._ended = True
            return
        self._held.clear()
        super().connection_lost(exc)


def _with_one_length(data: bytes) -> bytes:
    """Leave out what a head repeats of its Content-Length, where all of it came in one read.

    RFC 9110, 8.6, lets a recipient do that, and Go's clients do; aiohttp's parser refuses it.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0 or data[:end].lower().count(b"\r\n" + _LENGTH) < 2:
        return data
    lines = data[:end].split(b"\r\n")
    told = [line for line in lines if line.lower().startswith(_LENGTH)]
    if len({line[len(_LENGTH) :].strip(b" \t") for line in told}) > 1:
        return data
    others = [line for line in lines if not line.lower().startswith(_LENGTH)]
    return b"\r\n".join([*others, told[0]]) + data[end:]


class Connector(aiohttp.TCPConnector):
    """Makes connections whose bytes are parsed in slices where they are dense.

    Each is one of the `leases` while it is in use.
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
        """Make or reuse a connection."""
        connection = await super().connect(req, traces, timeout)
        self._leases.take()
        connection.add_callback(self._leases.give)
        return connection
