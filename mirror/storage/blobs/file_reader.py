"""A file's bytes: read at once if they are in memory, on a thread if they are on the disk."""

from __future__ import annotations

import errno
import os
from typing import IO

from mirror.oci.digest import Hasher
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.errors import storage_error

_SAMPLE = 64 * 1024  # bytes of a file that one page is a sample of
_AHEAD = 2 * 1024**2  # bytes of a file read into memory at once
_STEP = 256 * 1024  # bytes per read of these
_NOT_AT_ONCE = (errno.EAGAIN, errno.EOPNOTSUPP)  # not in memory; unsupported by the file system


class FileReader:
    """A BlobReader of an open file; `size` in bytes. It closes the file."""

    def __init__(
        self, file: IO[bytes], threads: DiskThreads, size: int, changed_at: int | None = None
    ) -> None:
        self.size = size
        self.changed_at = changed_at
        self._file = file
        self._threads = threads

    def __repr__(self) -> str:
        return f"<FileReader: {self.size} bytes>"

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    async def read(self, start: int, stop: int) -> bytes | memoryview:
        """Return the bytes of a span; raises StorageError."""
        try:
            found = _in_memory(self.fileno(), stop - start, start)
        except OSError as error:
            raise storage_error(error) from error
        if found is not None:
            return found
        return await self._threads.run_read(os.pread, self.fileno(), stop - start, start)

    async def load(self, start: int, stop: int) -> int:
        """Bring a span into memory, with the bytes after it if the disk is read at all."""
        try:
            if _is_there(self.fileno(), start, stop):
                return stop
        except OSError as error:
            raise storage_error(error) from error
        await self._threads.run_read(_bring, self.fileno(), start, start + _AHEAD)
        return start + _AHEAD

    async def hash(self, hasher: Hasher, start: int, stop: int) -> int:
        """Hash the bytes of a span, on a thread; returns their number. Raises StorageError."""
        return await self._threads.run_read(_hash, self.fileno(), hasher, start, stop)

    def duplicate(self) -> FileReader:
        """Return another reader of the same file; raises Unavailable."""
        try:
            file = os.fdopen(os.dup(self.fileno()), "rb", buffering=0)
        except OSError as error:
            raise storage_error(error) from error
        return FileReader(file, self._threads, self.size, self.changed_at)

    def close(self) -> None:
        """Close the file on a thread: the last close of an unlinked one frees its blocks."""
        self._threads.later(self._file.close)


def _in_memory(file: int, size: int, start: int) -> memoryview | None:
    """Read bytes that are all in memory; None if they are not, or the file system cannot tell."""
    buffer = bytearray(size)  # a new one: TLS may keep a reference to it
    try:
        count = os.preadv(file, [buffer], start, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in _NOT_AT_ONCE:
            raise
        return None
    return memoryview(buffer) if count == size else None


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


def _bring(file: int, start: int, stop: int) -> None:
    """Read a span of a file into memory, and start reading ahead after it."""
    buffer = bytearray(_STEP)
    while start < stop and (count := os.preadv(file, [buffer], start)):
        start += count
    os.posix_fadvise(file, stop, _AHEAD, os.POSIX_FADV_WILLNEED)


def _hash(file: int, hasher: Hasher, start: int, stop: int) -> int:
    piece = os.pread(file, stop - start, start)
    hasher.update(piece)
    return len(piece)
