"""The small body of a request: gathered as it arrives, for the few paths that take one."""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage

MOST = 64 * 1024  # bytes


class RequestBody:
    """The body of `size` bytes of one request, which is the last one of its connection."""

    def __init__(self, message: RawRequestMessage, size: int) -> None:
        self.message = message
        self._missing = size
        self._bytes = bytearray()
        self._whole = asyncio.Event()
        self._broken = False

    def __repr__(self) -> str:
        return f"<RequestBody: {len(self._bytes)} bytes, {self._missing} missing>"

    def feed(self, data: bytes) -> None:
        """Take in received bytes; what follows the body is ignored."""
        part = data[: self._missing]
        self._bytes += part
        self._missing -= len(part)
        if not self._missing:
            self._whole.set()

    def end(self) -> None:
        """Record that the connection is closed."""
        self._broken = True
        self._whole.set()

    async def read(self) -> bytes:
        """Return the whole body; raises ConnectionResetError if the client leaves before."""
        if self._missing:
            await self._whole.wait()
        if self._broken and self._missing:
            raise ConnectionResetError("the client left before its request had ended")
        return bytes(self._bytes)


def small_body(message: object) -> RequestBody | None:
    """Return the body that a request announces, if it is a small one of a POST."""
    if not isinstance(message, RawRequestMessage) or message.method != hdrs.METH_POST:
        return None
    size = _announced(message.headers.get(hdrs.CONTENT_LENGTH, ""))
    if message.chunked or size is None or size > MOST:
        return None
    return RequestBody(message, size)


def _announced(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def body_of(request: web.BaseRequest) -> RequestBody | None:
    """Return the gathered body of a request, if there is one."""
    body: RequestBody | None = getattr(request.protocol, "body", None)
    return body if body is not None and body.message is request._message else None
