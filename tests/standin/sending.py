"""Sending: an answer on a connection, at the kernel's speed or with a fault."""

import asyncio
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import BinaryIO

from aiohttp import web

from .answers import Answer
from .faults import Fault
from .line import Line

CHUNK = 256 * 1024


@dataclass(frozen=True)
class Sending:
    """One answer on its way; `sent` gets the count of body bytes written to the socket."""

    request: web.BaseRequest
    answer: Answer
    fault: Fault
    line: Line | None
    sent: Callable[[int], None]

    async def run(self) -> web.StreamResponse:
        """Send the answer, or as much of it as the fault allows."""
        response = web.StreamResponse(status=self.answer.status, headers=self.answer.headers)
        self._declare_length(response)
        self._transport.set_write_buffer_limits(high=0)  # a write returns when the kernel has it
        await response.prepare(self.request)
        if self.request.method != "HEAD" and self.answer.length:
            await self._send_body(response)
        return response

    def _declare_length(self, response: web.StreamResponse) -> None:
        if self.fault.chunked and self.request.method != "HEAD":
            response.enable_chunked_encoding()
        elif self.answer.status != 304:
            response.content_length = self._declared
        if self._declared != self._available:
            response.force_close()

    @property
    def _available(self) -> int:
        short_at = self.fault.short_at
        return self.answer.length if short_at is None else min(short_at, self.answer.length)

    @property
    def _declared(self) -> int:
        lie = self.fault.content_length
        return self._available if lie is None else lie

    @property
    def _transport(self) -> asyncio.WriteTransport:
        if self.request.transport is None:
            raise ConnectionResetError("the client left")
        return self.request.transport

    async def _send_body(self, response: web.StreamResponse) -> None:
        body = self.answer.body
        if isinstance(body, bytes):
            await self._send_pieces(response, lambda at, size: body[at : at + size])
            return
        with body.open("rb") as file:
            if self.line or self.fault.spoils_body:
                await self._send_pieces(response, _reader(file))
            else:
                await self._send_file(file)

    async def _send_file(self, file: BinaryIO) -> None:
        """Let the kernel copy the file."""
        # Counted at once: the client may have the bytes before this task resumes
        self.sent(self.answer.length)
        loop = asyncio.get_running_loop()
        try:
            await loop.sendfile(self._transport, file, self.answer.start, self.answer.length)
        except BaseException:
            self.sent(max(file.tell() - self.answer.start, 0) - self.answer.length)
            raise

    async def _send_pieces(
        self, response: web.StreamResponse, read: Callable[[int, int], bytes]
    ) -> None:
        line = Line(self.fault.rate) if self.fault.rate else self.line
        with line.sending() if line else nullcontext():
            done = 0
            while size := await self._next_size(done, line.chunk if line else CHUNK):
                if line:
                    await line.turn(size)
                piece = self._corrupted(read(self.answer.start + done, size), done)
                self.sent(size)
                await response.write(piece)
                await self.request.writer.drain()
                done += size

    async def _next_size(self, done: int, chunk: int) -> int:
        """Return the size of the next piece: up to the end, or up to the fault."""
        fault = self.fault
        if done == fault.stall_after:
            await fault.wait()
        if done == fault.cut_after:
            raise ConnectionAbortedError("a fault of the stand-in")
        if done == self._available:
            return 0
        places = (fault.stall_after, fault.cut_after, self._available)
        return min(chunk, *(place - done for place in places if place and place > done))

    def _corrupted(self, piece: bytes, done: int) -> bytes:
        place = self.fault.corrupt_at
        at = -1 if place is None else place - self.answer.start - done
        if not 0 <= at < len(piece):
            return piece
        return piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]


def _reader(file: BinaryIO) -> Callable[[int, int], bytes]:
    return lambda at, size: os.pread(file.fileno(), size, at)
