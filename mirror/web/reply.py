"""A reply on the wire: its head in one piece, its body from memory or followed to the end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

import mirror
from mirror.cache.bodies import Body
from mirror.cache.outcome import Outcome
from mirror.oci.errors import RegistryError
from mirror.oci.ranges import Span
from mirror.request_id import HEADER
from mirror.web.sending import Chunks, Client, Reads

CUT = "cut: the mirror stopped"  # why a reply is not whole
REQUEST_ID = web.RequestKey("request_id", str)  # where a request keeps its own
_SERVER = f"mirror/{mirror.__version__}"
AT_ONCE = 64 * 1024  # bytes of a body that are written with the head, whoever reads them
_MEMORY = (bytes, memoryview)  # a union would be made anew each time that it is looked at
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


@dataclass(frozen=True, slots=True, weakref_slot=True)
class InMemory:
    """A body that is there, and may be shared with others' replies."""

    body: bytes | memoryview

    async def send(self, client: Client) -> None:
        """Send it."""
        await client.memory(self.body)

    def close(self) -> None:
        """Let go of it."""


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
    `reads` has files read on a thread.
    """

    def __init__(
        self,
        status: int,
        headers: str,
        *,
        length: int | None,
        body: bytes | memoryview | Flow = b"",
        outcome: Outcome | None = None,
        cause: str = "",
        last: bool = False,
        reads: Reads = asyncio.to_thread,
    ) -> None:
        super().__init__(status=status)
        self.outcome = outcome
        self.cause = cause
        self.sent = 0
        self.broken = ""
        self._lines = headers
        self._length = length
        self._flow, self._small = _parted(body)
        self._reads = reads
        self._client: Client | None = None
        self._last = last
        self._lasting = False

    @property
    def length(self) -> int | None:
        """How long its body is, in bytes, where that is known."""
        return self._length

    def cut(self) -> None:
        """Note that the end of the mirror is its end, too."""
        self.broken = CUT

    @property
    def keep_alive(self) -> bool | None:
        """Whether another request may follow on this connection."""
        return self._lasting and not self.broken

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the head, and with it a body that is small and in memory."""
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
        elif self._flow is None:
            transport.write(head + self._small)
            self.sent = len(self._small)
            if transport.get_write_buffer_size():
                await self._drained(request, transport)
        else:
            transport.write(head)
            request[BEING_SENT] = self
            kind = Chunks if chunked else Client
            self._client = kind(request.writer, transport, self._reads)
        return None

    async def _drained(self, request: web.BaseRequest, transport: asyncio.Transport) -> None:
        """Wait until the client has taken most of a body that was written with the head."""
        request[BEING_SENT] = self
        try:
            await request.writer.drain()
        except asyncio.CancelledError:
            self.sent = max(0, self.sent - transport.get_write_buffer_size())
            raise

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - as aiohttp has it
        """Stream the body where it is not sent with the head.

        What cannot be completed is broken off: a short body under a Content-Length, or without its
        last chunk, is the one failure that every client sees and retries.
        """
        client, flow = self._client, self._flow
        if client is None or flow is None:
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
                self.sent = max(0, self.sent - client.untaken)
                client.abort()

    def _close(self) -> None:
        if self._flow is not None:
            self._flow.close()

    def _head(self, request: web.BaseRequest) -> bytes:
        connection = "" if self._lasting else "Connection: close\r\n"
        if self._lasting and request.version < (1, 1):
            connection = "Connection: keep-alive\r\n"
        length = "" if self.status == 304 else f"Content-Length: {self._length}\r\n"
        if self._length is None:
            length = "Transfer-Encoding: chunked\r\n" if request.version >= (1, 1) else ""
        return (
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}\r\n{self._lines}{length}"
            f"Date: {_http_date(int(time.time()))}\r\nServer: {_SERVER}\r\n"
            f"{HEADER}: {request[REQUEST_ID]}\r\n{connection}\r\n"
        ).encode("latin-1", "replace")


BEING_SENT = web.RequestKey("being sent", Reply)  # where a request keeps what it may wait for


def _parted(body: bytes | memoryview | Flow) -> tuple[Flow | None, bytes | memoryview]:
    """Return what is sent piece by piece, or at once: a copy of all would wait for slow readers."""
    if not isinstance(body, _MEMORY):
        return body, b""
    return (InMemory(body), b"") if len(body) > AT_ONCE else (None, body)


@lru_cache(maxsize=2)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)
