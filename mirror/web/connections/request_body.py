"""The body of a request, as it arrives: little of it is held, for the few paths that take one."""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage

from mirror.web.connections.chunked import ChunkedDecoder

MOST = 64 * 1024  # bytes of a body that is read whole, and of a longer body the bytes that wait
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class RequestBody:
    """The body of one request, which is the last one of its connection.

    `size` is in bytes, None for a body in chunks. Reading from the connection pauses while `MOST`
    bytes wait.
    """

    def __init__(
        self, message: RawRequestMessage, size: int | None, transport: asyncio.Transport | None
    ) -> None:
        self.message = message
        self.size = size
        self._transport = transport
        self._missing = size
        self._chunks = ChunkedDecoder() if size is None else None
        self._waiting = bytearray()
        self._some = asyncio.Event()
        self._broken = False
        self._begun = False

    def __repr__(self) -> str:
        return f"<RequestBody of {self.size} bytes: {len(self._waiting)} wait>"

    def feed(self, data: bytes) -> int:
        """Take in received bytes; returns how many follow the body: these are dropped."""
        part = data if self._missing is None else data[: self._missing]
        if self._missing is not None:
            self._missing -= len(part)
        self._waiting += part
        if len(self._waiting) > MOST and self._transport is not None:
            self._transport.pause_reading()
        self._some.set()
        return len(data) - len(part)

    def end(self) -> None:
        """Record that the connection is closed."""
        self._broken = True
        self._some.set()

    async def next(self) -> bytes:
        """Return the next bytes, b"" at the end.

        Raises ConnectionResetError if the client leaves before, RequestInvalid for wrong chunks.
        """
        self._begin()
        while not self._ended():
            if data := await self._more():
                return data
        return b""

    async def _more(self) -> bytes:
        """Return some of the waiting bytes, or wait for more, and return b""."""
        if self._chunks is not None and self._chunks.behind:
            await asyncio.sleep(0)  # the turn of other tasks: a body may have only tiny chunks
            return self._chunks.take(b"")
        if self._waiting:
            return self._taken()
        if self._broken:
            raise ConnectionResetError("the client left before its request had ended")
        self._some.clear()
        await self._some.wait()
        return b""

    def _begin(self) -> None:
        """Tell a client that waits for it to send the body (RFC 9110, 10.1.1)."""
        if self._begun:
            return
        self._begun = True
        expected = self.message.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
        expected = expected and self.message.version >= (1, 1)  # HTTP/1.0 has no interim answer
        if expected and not self._waiting and self._transport is not None:
            self._transport.write(_CONTINUE)

    def _ended(self) -> bool:
        if self._chunks is not None:
            return self._chunks.ended
        return not self._missing and not self._waiting

    def _taken(self) -> bytes:
        """Return the waiting bytes, and let more arrive; raises RequestInvalid."""
        data = bytes(self._waiting)
        self._waiting.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        return data if self._chunks is None else self._chunks.take(data)

    async def read(self) -> bytes:
        """Return the whole body, which is a small one; raises ConnectionResetError."""
        pieces = list[bytes]()
        while piece := await self.next():
            pieces.append(piece)
        return b"".join(pieces)


def body_announced(message: object, transport: asyncio.Transport | None) -> RequestBody | None:
    """Return the body that a request announces, if it is one of a POST."""
    if not isinstance(message, RawRequestMessage) or message.method != hdrs.METH_POST:
        return None
    if message.chunked:
        return RequestBody(message, None, transport)
    size = _announced(message.headers.get(hdrs.CONTENT_LENGTH, ""))
    return None if size is None else RequestBody(message, size, transport)


def _announced(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def body_of(request: web.BaseRequest) -> RequestBody | None:
    """Return the body of a request, if it has one."""
    body: RequestBody | None = getattr(request.protocol, "body", None)
    return body if body is not None and body.message is request._message else None
