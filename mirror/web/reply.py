"""A reply on the wire: its head in one piece, its body from memory or followed to the end."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import IO, Protocol

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

import mirror
from mirror.cache.bodies import Body
from mirror.cache.outcome import Outcome
from mirror.oci.errors import RegistryError, UpstreamUnavailable
from mirror.oci.ranges import Span

_SERVER = f"mirror/{mirror.__version__}"
_LEAST, _MOST = 64 * 1024, 256 * 1024  # bytes of a file that go through TLS at once
_NOT_AT_ONCE = (errno.EAGAIN, errno.EOPNOTSUPP)  # not in memory; a file system that cannot tell
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Streamed:
    """A span of a body that is sent as it comes."""

    body: Body
    span: Span

    async def send(self, client: Client) -> None:
        """Send it; raises RegistryError where it cannot be completed."""
        await self.body.send(self.span, client)

    def close(self) -> None:
        """Let go of it."""
        self.body.close()


class Flow(Protocol):
    """A body that is sent as it comes, and closed; see Streamed."""

    async def send(self, client: Client) -> None:
        """Send it; raises RegistryError where it cannot be completed."""

    def close(self) -> None:
        """Let go of it."""


class Reply(web.StreamResponse):
    """One answer. aiohttp calls `prepare`, then `write_eof`.

    The head is composed here rather than by aiohttp: on the path of a warm manifest that is half
    of all the time there is (measured: 25,000 requests a second before, 40,000 after).

    `length` is the body's, in bytes, whether or not it is sent. Where that is not known, None, the
    body goes in chunks, or up to the end of the connection (RFC 9112, 6.3). `last` ends the
    connection. What was sent, and why not all of it, stands in `sent` and `broken` for the log.
    """

    def __init__(
        self,
        status: int,
        headers: str,
        *,
        length: int | None,
        body: bytes | Flow = b"",
        outcome: Outcome | None = None,
        cause: str = "",
        last: bool = False,
    ) -> None:
        super().__init__(status=status)
        self.outcome = outcome
        self.cause = cause
        self.sent = 0
        self.broken = ""
        self._lines = headers
        self._length = length
        self._content = body
        self._client: Client | None = None
        self._last = last
        self._lasting = False

    @property
    def keep_alive(self) -> bool | None:
        """Whether another request may follow on this connection."""
        return self._lasting and not self.broken

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the head, and with it the body where that is in memory."""
        transport = request.transport
        if transport is None or transport.is_closing():
            self.broken = "client left"
            self._close()
            return None
        chunked = self._length is None and request.version >= (1, 1)
        measured = self._length is not None or chunked
        self._lasting = request.keep_alive and not self._last and measured
        head = self._head(request)
        if request.method == "HEAD" or self.status == 304:
            self._close()
            transport.write(head)
        elif isinstance(self._content, bytes):
            transport.write(head + self._content)
            self.sent = len(self._content)
            if transport.get_write_buffer_size():
                await request.writer.drain()
        else:
            transport.write(head)
            self._client = (Chunks if chunked else Client)(request.writer, transport)
        return None

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - as aiohttp has it
        """Stream the body where it is not in memory.

        What cannot be completed is broken off: a short body under a Content-Length, or without its
        last chunk, is the one failure that every client sees and retries.
        """
        client, flow = self._client, self._content
        if client is None or isinstance(flow, bytes):
            return
        try:
            await flow.send(client)
            await client.end()
        except RegistryError as error:
            self.outcome, self.cause = Outcome.ERROR, error.message
            self.broken = "upstream failed"
        except ConnectionError:
            self.broken = "client left"
        except OSError as error:  # of the client's network, or of the disk
            self.broken = f"broke off: {error.strerror}"
        finally:
            self._close()
            self.sent = client.sent
            whole = client.ended if self._length is None else client.sent >= self._length
            if not whole:
                self.broken = self.broken or "stopped"
                client.abort()

    def _close(self) -> None:
        if not isinstance(self._content, bytes):
            self._content.close()

    def _head(self, request: web.BaseRequest) -> bytes:
        connection = "" if self._lasting else "Connection: close\r\n"
        if self._lasting and request.version < (1, 1):
            connection = "Connection: keep-alive\r\n"
        length = "" if self.status == 304 else f"Content-Length: {self._length}\r\n"
        if self._length is None:
            length = "Transfer-Encoding: chunked\r\n" if request.version >= (1, 1) else ""
        return (
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}\r\n{self._lines}{length}"
            f"Date: {_http_date(int(time.time()))}\r\nServer: {_SERVER}\r\n{connection}\r\n"
        ).encode("latin-1", "replace")


class Client:
    """The client's side of a streamed body."""

    def __init__(self, writer: AbstractStreamWriter, transport: asyncio.Transport) -> None:
        self._writer = writer
        self._transport = transport
        self._encrypted = transport.get_extra_info("sslcontext") is not None
        self.sent = 0
        self.ended = False

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return self._transport.is_closing()

    async def end(self) -> None:
        """Note that all was sent."""
        self.ended = True

    async def data(self, data: bytes | memoryview) -> None:
        """Send bytes at the client's pace; raises ConnectionError when it has gone."""
        await self._writer.write(data)
        self.sent += len(data)

    async def file(self, file: IO[bytes], start: int, stop: int) -> None:
        """Send a file's bytes, by sendfile where it can be: none of them passes through Python."""
        if self._transport.is_closing():
            raise ConnectionResetError("the client has gone")
        if start == stop:
            return
        if self._encrypted:
            await self._pieces(file, start, stop)
            return
        loop = asyncio.get_running_loop()
        count = await loop.sendfile(self._transport, file, start, stop - start)
        self.sent += count
        if count < stop - start:
            raise UpstreamUnavailable("the kept file is shorter than it was")

    async def _pieces(self, file: IO[bytes], start: int, stop: int) -> None:
        """Send a file's bytes through TLS, in pieces that are as large as the client is fast.

        asyncio's sendfile would read 16 KiB at a time there (136 MB/s). Larger pieces than these
        are slower again: each takes fresh memory, whose pages cost more than to encrypt them
        (measured: 590 MiB/s with a mebibyte, 820 with a quarter).
        """
        piece = _LEAST
        while start < stop:
            data = await _read(file.fileno(), min(piece, stop - start), start)
            if not data:
                raise UpstreamUnavailable("the kept file is shorter than it was")
            start += len(data)
            await self.data(data)
            piece = min(2 * piece, _MOST)

    def abort(self) -> None:
        """Break off, so that the client knows that it has not got all."""
        ended = self._transport.is_closing() and not self._transport.get_write_buffer_size()
        if not ended:  # asyncio raises where a transport was closed and then sent its last byte
            self._transport.abort()


class Chunks(Client):
    """The client's side of a body whose length is not known beforehand (RFC 9112, 7.1)."""

    async def data(self, data: bytes | memoryview) -> None:
        """Send bytes as a chunk."""
        await self._writer.write(b"".join((b"%x\r\n" % len(data), data, b"\r\n")))
        self.sent += len(data)

    async def end(self) -> None:
        """Send the chunk that says so."""
        await self._writer.write(b"0\r\n\r\n")
        self.ended = True


async def _read(file: int, size: int, start: int) -> bytes | memoryview:
    """Read what is in memory at once, and only what must come from the disk on a thread."""
    buffer = bytearray(size)  # a new one: TLS may hold on to what it was given
    try:
        count = os.preadv(file, [buffer], start, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in _NOT_AT_ONCE:
            raise
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, os.pread, file, size, start)
    return memoryview(buffer)[:count]


@lru_cache(maxsize=2)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)
