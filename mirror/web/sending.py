"""A body on its way to a client, at the client's pace: from memory, a file, or as it comes."""

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
_LEAST, _MOST = 64 * 1024, 256 * 1024  # bytes of a file that are read and written at once
_HELD = 32 * 1024  # bytes of a body in memory that are copied for a client that does not read
_SPAN = 1024**2  # bytes of a file that are looked for in memory, and then sent, at once
_WEDGE = 4 * 1024  # bytes whose way into a full socket tells that there is room again
_SAMPLE = 64 * 1024  # bytes of a file for which one page tells whether they are in memory
_AHEAD = 2 * 1024**2  # bytes of a file that are brought into memory at once
_TRUSTED = 1.0  # seconds for which what was in memory is taken to be there
_NOT_AT_ONCE = (errno.EAGAIN, errno.EOPNOTSUPP)  # not in memory; a file system that cannot tell
# A file system without sendfile, or a kernel without memory for it (sendfile(2), "ERRORS").
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOMEM)
_STATE = (socket.IPPROTO_TCP, socket.TCP_INFO, 1)  # its first octet (tcp(7), linux/tcp.h)
_ESTABLISHED = 1
_SHORT = "the kept file is shorter than it was"


class Reads(Protocol):
    """What has work that may wait for a disk done on a thread; see `Store.run_read`."""

    async def __call__(self, work: Callable[..., T], /, *args: object) -> T:
        """Do it; raises what it raises."""


class Peer:
    """Who waits for an answer at the other end of a connection, None of one that is over."""

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport

    @property
    def gone(self) -> bool:
        """Whether the client has left: also one of whom nothing is read any more."""
        if self._transport is None or self._transport.is_closing():
            return True
        try:
            told = self._transport.get_extra_info("socket").getsockopt(*_STATE)
        except OSError:
            return True
        return bool(told[0] != _ESTABLISHED)


class Client:
    """The client's side of a streamed body. `sent` is in bytes, `reads` for what is on a disk."""

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
        """How many bytes of what was sent wait here, because the client takes no more."""
        return self._transport.get_write_buffer_size()

    async def end(self) -> None:
        """Note that all was sent."""
        self.ended = True

    async def data(self, data: bytes | memoryview) -> None:
        """Send bytes at the client's pace; raises ConnectionError when it has gone."""
        await self._writer.write(data)
        self.sent += len(data)

    async def memory(self, body: bytes | memoryview) -> None:
        """Send what many clients may share: of one that does not read, little is copied."""
        whole = memoryview(body)
        self._transport.set_write_buffer_limits(0)  # what is written next waits for all before it
        for start in range(0, len(whole), _HELD):
            await self._writer.drain()
            await self.data(whole[start : start + _HELD])
        self._transport.set_write_buffer_limits()

    async def file(self, file: IO[bytes], start: int, stop: int) -> None:
        """Send a file's bytes, by sendfile where it can be: none of them passes through Python."""
        if self.gone:
            raise ConnectionResetError("the client has gone")
        if not self._encrypted:
            start = await _Sendfile(self, self._transport, self._reads).send(file, start, stop)
        await self._pieces(file, start, stop)

    async def flushed(self) -> None:
        """Wait until the kernel has taken what was written, as far as the transport's limits go."""
        await self._writer.drain()

    async def _pieces(self, file: IO[bytes], start: int, stop: int) -> None:
        """Send a file's bytes through TLS, in pieces that are as large as the client is fast.

        asyncio's sendfile would read 16 KiB at a time there (136 MB/s). Larger pieces than these
        are slower again: each takes fresh memory, whose pages cost more than to encrypt them
        (measured: 590 MiB/s with a mebibyte, 820 with a quarter).
        """
        piece = _LEAST
        while start < stop:
            data = await _read(file.fileno(), min(piece, stop - start), start, self._reads)
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


class _Sendfile:
    """A file's way into a socket that never waits for a disk on the event loop.

    asyncio's own would: a page that is not in memory holds the loop for as long as the disk takes.
    It also reads and seeks in its own way where sendfile fails, and a file here is shared.
    """

    def __init__(self, client: Client, transport: asyncio.Transport, reads: Reads) -> None:
        self._client = client
        self._transport = transport
        self._reads = reads
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._seen = (0, 0.0)  # up to where in memory, and when

    async def send(self, file: IO[bytes], start: int, stop: int) -> int:
        """Return how far it came: less than `stop` where sendfile is of no use."""
        reading = self._transport.is_reading()
        self._transport.pause_reading()  # one that says no more may well read on
        self._transport.set_write_buffer_limits(0)  # what is sent past it must be behind all of it
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
        """Send what the socket takes at once, or wait until it does."""
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
        await asyncio.sleep(0)  # others' turn
        return sent

    async def _wedge(self, file: int, start: int, stop: int) -> int:
        """Wait until the socket takes more, by a few bytes that its transport sends."""
        size = min(_WEDGE, stop - start)
        data = await _read(file, size, start, self._reads)
        await self._client.data(data)
        await self._client.flushed()
        return len(data)

    async def _there(self, file: int, start: int, stop: int) -> int:
        """Return up to where what follows is in memory, once it is.

        A span is looked at once, not again behind each part of it that the socket takes.
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
    """Read what is in memory at once, and only what must come from the disk on a thread."""
    data: bytes | memoryview | None = _in_memory(file, size, start)
    if data is None:
        data = await reads(os.pread, file, size, start)
    if not data:
        raise UpstreamUnavailable(_SHORT)
    return data


def _bring(file: int, start: int, stop: int) -> None:
    """Bring a span of a file into memory, and have the disk begin with what follows."""
    buffer = bytearray(_MOST)
    while start < stop and (count := os.preadv(file, [buffer], start)):
        start += count
    os.posix_fadvise(file, stop, _AHEAD, os.POSIX_FADV_WILLNEED)


def _is_there(file: int, start: int, stop: int) -> bool:
    """Whether a span is in memory, by a page here and there: files come and go by the dozen."""
    buffers = [bytearray(1)]
    samples = (*range(start, stop, _SAMPLE), stop - 1)  # the disk brings the last page last
    try:
        for at in samples:
            os.preadv(file, buffers, at, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in _NOT_AT_ONCE:
            raise
        return False
    return True


def _in_memory(file: int, size: int, start: int) -> memoryview | None:
    """Read what is in memory; None where that is nothing, or the file system cannot tell."""
    buffer = bytearray(size)  # a new one: TLS may hold on to what it was given
    try:
        count = os.preadv(file, [buffer], start, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in _NOT_AT_ONCE:
            raise
        return None
    return memoryview(buffer)[:count]
