"""An upstream that sends any bytes, as no HTTP library would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

NAME = "library/nginx"


@dataclass
class Raw:
    """Answers a request with the bytes for a text that its first line contains.

    `endless` is sent after an answer, for ever, with a `pause` in seconds behind each. `heads` are
    the requests, `sent` the endless bytes that were taken, `open` the connections on which they are
    being sent.
    """

    answers: dict[str, bytes] = field(default_factory=dict)
    endless: bytes = b""
    pause: float = 0
    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    sent: int = 0
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and hang up."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            line = head.split(b"\r\n", 1)[0].decode()
            found = [answer for text, answer in self.answers.items() if text in line]
            writer.write(found[0] if found else answer(b"", status=b"404 Not Found"))
            await writer.drain()
            if self.endless and found:
                await self._go_on(writer)
        writer.close()

    async def _go_on(self, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                writer.write(self.endless)
                await writer.drain()
                self.sent += len(self.endless)
                await asyncio.sleep(self.pause)
        finally:
            self.open -= 1


@asynccontextmanager
async def speaking(raw: Raw) -> AsyncIterator[Raw]:
    """Let it speak on a free port of the loopback."""
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    raw.url = "http://{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield raw
    finally:
        server.close()


def answer(body: bytes, *lines: bytes, status: bytes = b"200 OK", length: bool = True) -> bytes:
    """Return an answer with any header lines."""
    told = [b"Content-Length: %d" % len(body)] if length else []
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, *told, b"Connection: close", b"", body])
