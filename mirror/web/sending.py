"""Sending a body at the client's pace: from memory, from a file, or while it arrives."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time

from aiohttp.abc import AbstractStreamWriter

from mirror.oci.errors import UpstreamUnavailable
from mirror.storage.blobs.protocol import BlobReader

_LEAST, _MOST = 64 * 1024, 256 * 1024  # bytes of a file per read and write
_HELD = 32 * 1024  # bytes of a body in memory copied for a client that does not read
_SPAN = 1024**2  # bytes of a file per check of the page cache, and per sendfile
_WEDGE = 4 * 1024  # bytes written to a full socket to learn when it has room again
_TRUSTED = 1.0  # seconds for which a file's span is assumed to stay in memory
# A file system without sendfile, or a kernel without memory for it (sendfile(2), "ERRORS"). A disk
# that fails says so again when the bytes are read.
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOMEM, errno.EIO)
_STATE = (socket.IPPROTO_TCP, socket.TCP_INFO, 1)  # its first octet (tcp(7), linux/tcp.h)
_ESTABLISHED = 1
_SHORT = "the stored file has become shorter"


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
            state = self._transport.get_extra_info("socket").getsockopt(*_STATE)
        except OSError:
            return True
        return bool(state[0] != _ESTABLISHED)


class ClientStream:
    """The client's side of a streamed body. `sent` is in bytes."""

    def __init__(self, writer: AbstractStreamWriter, transport: asyncio.Transport) -> None:
        self._writer = writer
        self._transport = transport
        self._peer = Peer(transport)
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

    async def blob(self, reader: BlobReader, start: int, stop: int) -> None:
        """Send a blob's bytes, by sendfile if possible: they do not pass through Python then.

        Raises StorageError, ConnectionError if the client has left.
        """
        if self.gone:
            raise ConnectionResetError("the client has gone")
        file = None if self._encrypted else reader.fileno()
        if file is not None:
            start = await _Sendfile(self, self._transport, reader, file).send(start, stop)
        await self._pieces(reader, start, stop)

    async def flushed(self) -> None:
        """Wait until the kernel has taken the written bytes, down to the transport's limit."""
        await self._writer.drain()

    async def _pieces(self, reader: BlobReader, start: int, stop: int) -> None:
        """Send a blob's bytes through TLS, in pieces that grow up to `_MOST`.

        asyncio's sendfile reads 16 KiB at a time for TLS (136 MB/s). Pieces above `_MOST` are
        slower again: the pages of fresh memory for each cost more than its encryption
        (measured: 590 MiB/s with pieces of 1 MiB, 820 MiB/s with 256 KiB).
        """
        piece = _LEAST
        while start < stop:
            data = await _read(reader, start, min(start + piece, stop))
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

    def __init__(
        self, client: ClientStream, transport: asyncio.Transport, reader: BlobReader, file: int
    ) -> None:
        self._client = client
        self._transport = transport
        self._reader = reader
        self._file = file
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._seen = (0, 0.0)  # end of the span in memory, and time of the check

    async def send(self, start: int, stop: int) -> int:
        """Send a span; returns the offset reached: less than `stop` if sendfile is not possible."""
        reading = self._transport.is_reading()
        self._transport.pause_reading()  # a client that sends no more may still read
        self._transport.set_write_buffer_limits(0)  # sendfile bypasses the buffer: drain it
        try:
            await self._client.flushed()
            while start < stop:
                sent = await self._some(start, min(stop, start + _SPAN))
                if sent is None:
                    break
                start += sent
            return start
        finally:
            self._transport.set_write_buffer_limits()
            if reading and not self._transport.is_closing():
                self._transport.resume_reading()

    async def _some(self, start: int, stop: int) -> int | None:
        """Send as much as the socket takes at once; wait if it takes nothing."""
        stop = min(stop, await self._there(start, stop))
        if self._transport.is_closing():
            raise ConnectionResetError("the client has gone")
        try:
            sent = os.sendfile(self._socket.fileno(), self._file, start, stop - start)
        except BlockingIOError:
            return await self._wedge(start, stop)
        except OSError as error:
            if error.errno in _NO_SENDFILE:
                return None
            raise
        if not sent:
            raise UpstreamUnavailable(_SHORT)
        self._client.sent += sent
        await asyncio.sleep(0)  # let other tasks run
        return sent

    async def _wedge(self, start: int, stop: int) -> int:
        """Wait until the socket has room, by writing a few bytes through the transport."""
        data = await _read(self._reader, start, min(start + _WEDGE, stop))
        await self._client.data(data)
        await self._client.flushed()
        return len(data)

    async def _there(self, start: int, stop: int) -> int:
        """Return the end of a span in memory, after reading it from the disk if necessary.

        A span is checked once, not again after each part of it that the socket takes.
        """
        until, at = self._seen
        if start < until and time.monotonic() - at < _TRUSTED:
            return until
        until = await self._reader.load(start, stop)
        self._seen = until, time.monotonic()
        return until


async def _read(reader: BlobReader, start: int, stop: int) -> bytes | memoryview:
    """Read a span; raises UpstreamUnavailable at the end of the blob, StorageError."""
    data = await reader.read(start, stop)
    if not data:
        raise UpstreamUnavailable(_SHORT)
    return data
