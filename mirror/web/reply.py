"""Replies: the head is written in one piece, the body from memory or as a stream."""

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
from mirror.content.blobs.bodies import Body
from mirror.content.outcome import Outcome
from mirror.oci.errors import RegistryError
from mirror.oci.ranges import Span
from mirror.storage.errors import StorageError
from mirror.util.request_id import HEADER
from mirror.web.request_keys import BEING_SENT, REQUEST_ID
from mirror.web.sending import Chunks, ClientStream

CUT = "cut: the mirror stopped"  # the reason of an incomplete reply
_SERVER = f"mirror/{mirror.__version__}"
AT_ONCE = 64 * 1024  # bytes of a body that are written with the head, even to slow clients
# Bytes of a body that, with its head, fill no transport's buffer: nothing waits behind the write.
UNDIVIDED = 60 * 1024
_MEMORY = (bytes, memoryview)  # a union would be built again at each check
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class StreamedBody:
    """A span of a body that is sent while it arrives."""

    body: Body
    span: Span

    async def send(self, client: ClientStream) -> None:
        """Send it; raises RegistryError where it cannot be completed."""
        await self.body.send(self.span, client)

    def close(self) -> None:
        """Let go of it."""
        self.body.close()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class InMemoryBody:
    """A body in memory, which several replies may share."""

    body: bytes | memoryview

    async def send(self, client: ClientStream) -> None:
        """Send it."""
        await client.memory(self.body)

    def close(self) -> None:
        """Let go of it."""


class BodyStream(Protocol):
    """A body that is sent piece by piece, and then closed."""

    async def send(self, client: ClientStream) -> None:
        """Send it; raises RegistryError where it cannot be completed."""

    def close(self) -> None:
        """Let go of it."""


class Reply(web.StreamResponse):
    """One answer. aiohttp calls `prepare`, then `write_eof`.

    The head is composed here, not by aiohttp, which would take half of the time of a warm manifest
    (measured: 25,000 requests a second before, 40,000 after).

    `length` is the body's, in bytes, whether or not it is sent. If it is None, for unknown, the
    body is sent in chunks, or ends with the connection (RFC 9112, 6.3). `last` ends the connection.
    `cause` is the reason of an error, `why` that of a stale answer.
    For the log, `sent` has the bytes sent, and `broken` the reason if they are not all.
    """

    def __init__(
        self,
        status: int,
        headers: str,
        *,
        length: int | None,
        body: bytes | memoryview | BodyStream = b"",
        outcome: Outcome | None = None,
        cause: str = "",
        why: str = "",
        last: bool = False,
    ) -> None:
        super().__init__(status=status)
        self.outcome = outcome
        self.cause = cause
        self.why = why
        self.sent = 0
        self.broken = ""
        self._lines = headers
        self._length = length
        self._flow, self._small = _parted(body)
        self._client: ClientStream | None = None
        self._last = last
        self._lasting = False

    @property
    def length(self) -> int | None:
        """The length of the body in bytes, None if unknown."""
        return self._length

    def cut(self) -> None:
        """Record that the stop of the mirror has cut this reply."""
        self.broken = CUT

    @property
    def keep_alive(self) -> bool | None:
        """Whether another request may follow on this connection."""
        return self._lasting and not self.broken

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the head, together with a small body in memory."""
        transport = request.transport
        if transport is None or transport.is_closing():
            self.broken = "client left"
            self._close()
            return None
        chunked = self._length is None and request.version >= (1, 1)
        measured = self._length is not None or chunked
        self._lasting = request.keep_alive and not self._last and measured
        beginning = self._head(request)
        if request.method == "HEAD" or self.status == 304:
            self._close()
            transport.write(beginning)
        elif self._flow is None:
            transport.write(beginning + self._small)
            self.sent = len(self._small)
            if transport.get_write_buffer_size():
                await self._drained(request, transport)
        else:
            transport.write(beginning)
            request[BEING_SENT] = self
            kind = Chunks if chunked else ClientStream
            self._client = kind(request.writer, transport)
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
        """Stream the body if it was not sent with the head.

        A body that cannot be completed is broken off: a body shorter than its Content-Length, or
        without its last chunk, is the only failure that every client notices and retries.
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
        except StorageError as error:
            self.broken = f"broke off: {error.reason}"
        except OSError as error:  # the client's network
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
        return head(self.status, self._lines + length, request[REQUEST_ID], connection)


def head(status: int, lines: str, request_id: str, connection: str = "") -> bytes:
    """Render the head of an answer; `lines` are its header lines, `connection` is the last one."""
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n{lines}"
        f"Date: {_http_date(int(time.time()))}\r\nServer: {_SERVER}\r\n"
        f"{HEADER}: {request_id}\r\n{connection}\r\n"
    ).encode("latin-1", "replace")


def _parted(body: bytes | memoryview | BodyStream) -> tuple[BodyStream | None, bytes | memoryview]:
    """Split a body into flow and small bytes: a large one is not copied whole for slow clients."""
    if not isinstance(body, _MEMORY):
        return body, b""
    return (InMemoryBody(body), b"") if len(body) > AT_ONCE else (None, body)


@lru_cache(maxsize=2)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)
