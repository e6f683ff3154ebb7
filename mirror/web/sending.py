"""Sending a body at the client's pace: from memory, from a file, or while it arrives."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable
from typing import IO, Protocol, TypeVar

from aiohttp.abc import AbstractStreamWriter

from mirror.oci.errors import UpstreamUnavailable

T = TypeVar("T")
_LEAST, _MOST = 64 * 1024, 256 * 1024  # bytes of a file per read and write
_HELD = 32 * 1024  # bytes of a body in memory copied for a client that does not read
_SPAN = 1024**2  # bytes of a file per check of the page cache, and per sendfile
_WEDGE = 4 * 1024  # bytes written to a full socket to learn when it has room again
_SAMPLE = 64 * 1024  # bytes of a file that one page is a sample of
_AHEAD = 2 * 1024**2  # bytes of a file read into memory at once
_TRUSTED = 1.0  # seconds for which a file's span is assumed to stay in memory
_NOT_AT_ONCE = (errno.EAGAIN, errno.EOPNOTSUPP)  # not in memory; unsupported by the file system
# A file system without sendfile, or a kernel without memory for it (sendfile(2), "ERRORS").
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOMEM)
_STATE = (socket.IPPROTO_TCP, socket.TCP_INFO, 1)  # its first octet (tcp(7), linux/tcp.h)
_ESTABLISHED = 1
_SHORT = "the stored file has become shorter"


class Reads(Protocol):
    """Runs work that may wait for a disk on a thread; see `Store.run_read`."""

    async def __call__(self, work: Callable[..., T], /, *args: object) -> T:
        """Run `work`; raises its exceptions."""


class Peer:
    """The client at the other end of a connection; `transport` is None once that is closed."""

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport

    @property
    def gone(self) -> bool:
        """Whether the client has left; known even while reading from it is paused."""
        if self._transport is None or self._transport.is_closing():
            return True
        try:
            told = self._transport.get_extra_info("socket").getsockopt(*_STATE)
        except OSError:
            return True
        return bool(told[0] != _ESTABLISHED)


class ClientStream:
    """The client's side of a streamed body. `sent` is in bytes; `reads` reads files on a thread."""

    def __init__(
        self,
        writer: AbstractStreamWriter,
        transport: asyncio.Transport,
        reads: Reads = asyncio.to_thread,
    ) -> None:
        self._writer = writer
        self._transport = transport
        self._peer = Peer(transport)
        self._reads = reads
        self._encrypted = transport.get_extra_info("sslcontext") is not None
        self.sent = 0
        self.ended = False

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return self._peer.gone

    @property
    def untaken(self) -> int:
        """The bytes counted as sent that are still buffered, because the client takes no more."""
        return self._transport.get_write_buffer_size()

    async def end(self) -> None:
        """Record that the body was sent to its end."""
        self.ended = True

    async def data(self, data: bytes | memoryview) -> None:
        """Send bytes at the client's pace; raises ConnectionError if the client has left."""
        await self._writer.write(data)
        self.sent += len(data)

    async def memory(self, body: bytes | memoryview) -> None:
        """Send a body that clients may share: little is copied for a client that does not read."""
        whole = memoryview(body)
        self._transport.set_write_buffer_limits(0)  # a write waits for all bytes before it
        for start in range(0, len(whole), _HELD):
            await self._writer.drain()
            await self.data(whole[start : start + _HELD])
        self._transport.set_write_buffer_limits()

    async def file(self, file: IO[bytes], start: int, stop: int) -> None:
        """Send a file's bytes, by sendfile if possible: they do not pass through Python then."""
        if self.gone:
            raise ConnectionResetError("the client has gone")
        if not self._encrypted:
            start = await _Sendfile(self, self._transport, self._reads).send(file, start, stop)
        await self._pieces(file, start, stop)

    async def flushed(self) -> None:
        """Wait until the kernel has taken the written bytes, down to the transport's limit."""
        await self._writer.drain()

    async def _pieces(self, file: IO[bytes], start: int, stop: int) -> None:
        """Send a file's bytes through TLS, in pieces that grow up to `_MOST`.

        asyncio's sendfile reads 16 KiB at a time for TLS (136 MB/s). Pieces above `_MOST` are
        slower again: the pages of fresh memory for each cost more than its encryption
        (measured: 590 MiB/s with pieces of 1 MiB, 820 MiB/s with 256 KiB).
        """
        piece = _LEAST
        while start < stop:
            data = await _read(file.fileno(), min(piece, stop - start), start, self._reads)
            start += len(data)
            await self.data(data)
            piece = min(2 * piece, _MOST)

    def abort(self) -> None:
        """Break off the connection, so that the client notices the incomplete body."""
        ended = self._transport.is_closing() and not self._transport.get_write_buffer_size()
        if not ended:  # asyncio raises if a closed transport has sent its last byte
            self._transport.abort()


class Chunks(ClientStream):
    """The client's side of a body of unknown length, sent in chunks (RFC 9112, 7.1)."""

    async def data(self, data: bytes | memoryview) -> None:
        """Send bytes as a chunk."""
        await self._writer.write(b"".join((b"%x\r\n" % len(data), data, b"\r\n")))
        self.sent += len(data)

    async def end(self) -> None:
        """Send the last chunk."""
        await self._writer.write(b"0\r\n\r\n")
        self.ended = True


class _Sendfile:
    """Sends a file by sendfile, without waiting for a disk on the event loop.

    asyncio's sendfile would: a page that is not in memory holds the loop for as long as the disk
    takes. If sendfile fails it also seeks in the file, which is shared here.
    """

    def __init__(self, client: ClientStream, transport: asyncio.Transport, reads: Reads) -> None:
        self._client = client
        self._transport = transport
        self._reads = reads
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._seen = (0, 0.0)  # end of the span in memory, and time of the check

    async def send(self, file: IO[bytes], start: int, stop: int) -> int:
        """Send a span; returns the offset reached: less than `stop` if sendfile is not possible."""
        reading = self._transport.is_reading()
        self._transport.pause_reading()  # a client that sends no more may still read
        self._transport.set_write_buffer_limits(0)  # sendfile bypasses the buffer: drain it
        try:
            await self._client.flushed()
            while start < stop:
                sent = await self._some(file.fileno(), start, min(stop, start + _SPAN))
                if sent is None:
                    break
                start += sent
            return start
        finally:
            self._transport.set_write_buffer_limits()
            if reading and not self._transport.is_closing():
                self._transport.resume_reading()

    async def _some(self, file: int, start: int, stop: int) -> int | None:
        """Send as much as the socket takes at once; wait if it takes nothing."""
        stop = min(stop, await self._there(file, start, stop))
        if self._transport.is_closing():
            raise ConnectionResetError("the client has gone")
        try:
            sent = os.sendfile(self._socket.fileno(), file, start, stop - start)
        except BlockingIOError:
            return await self._wedge(file, start, stop)
        except OSError as error:
            if error.errno in _NO_SENDFILE:
                return None
            raise
        if not sent:
            raise UpstreamUnavailable(_SHORT)
        self._client.sent += sent
        await asyncio.sleep(0)  # let other tasks run
        return sent

    async def _wedge(self, file: int, start: int, stop: int) -> int:
        """Wait until the socket has room, by writing a few bytes through the transport."""
        size = min(_WEDGE, stop - start)
        data = await _read(file, size, start, self._reads)
        await self._client.data(data)
        await self._client.flushed()
        return len(data)

    async def _there(self, file: int, start: int, stop: int) -> int:
        """Return the end of a span in memory, after reading it from the disk if necessary.

        A span is checked once, not again after each part of it that the socket takes.
        """
        until, at = self._seen
        if start < until and time.monotonic() - at < _TRUSTED:
            return until
        until = stop
        if not _is_there(file, start, stop):
            until = start + _AHEAD
            await self._reads(_bring, file, start, until)
        self._seen = until, time.monotonic()
        return until


async def _read(file: int, size: int, start: int, reads: Reads) -> bytes | memoryview:
    """Read a file: directly if the bytes are in memory, on a thread if they are on the disk."""
    data: bytes | memoryview | None = _in_memory(file, size, start)
    if data is None:
        data = await reads(os.pread, file, size, start)
    if not data:
        raise UpstreamUnavailable(_SHORT)
    return data


def _bring(file: int, start: int, stop: int) -> None:
    """Read a span of a file into memory, and start reading ahead after it."""
    buffer = bytearray(_MOST)
    while start < stop and (count := os.preadv(file, [buffer], start)):
        start += count
    os.posix_fadvise(file, stop, _AHEAD, os.POSIX_FADV_WILLNEED)


def _is_there(file: int, start: int, stop: int) -> bool:
    """Whether a span is in memory, by sampled pages: the kernel loads and evicts many at once."""
    buffers = [bytearray(1)]
    samples = (*range(start, stop, _SAMPLE), stop - 1)  # the last page is loaded last
    try:
        for at in samples:
            os.preadv(file, buffers, at, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in _NOT_AT_ONCE:
            raise
        return False
    return True


def _in_memory(file: int, size: int, start: int) -> memoryview | None:
    """Read bytes in memory; None if there are none, or if the file system cannot tell."""
    buffer = bytearray(size)  # a new one: TLS may keep a reference to it
    try:
        count = os.preadv(file, [buffer], start, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in _NOT_AT_ONCE:
            raise
        return None
    return memoryview(buffer)[:count]
