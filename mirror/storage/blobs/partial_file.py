"""A partial in a file: a blob being written, hashed and appended in order."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mirror.oci.digest import Digest, Hasher
from mirror.storage.blobs.file_reader import FileReader
from mirror.storage.blobs.protocol import BlobReader
from mirror.storage.blobs.threads import DiskThreads
from mirror.storage.errors import Damaged, go_on

_SLICE = 1024 * 1024  # bytes per read when a partial is hashed again
_AT_ONCE = 16 * 1024  # bytes that are hashed sooner than a thread is reached


class PartialFile:
    """A PartialBlob in a file. Its bytes are hashed when it is opened, which blocks.

    Long reads end with Stopping once the threads are halted; the bytes so far stay. `rename` moves
    a file to the path of a blob, durably.
    """

    def __init__(
        self,
        digest: Digest,
        path: Path,
        threads: DiskThreads,
        rename: Callable[[Path, Digest], None],
    ) -> None:
        self.digest: Digest = digest
        self._path = path
        self._rename = rename
        self.hashed: int = 0
        self._hasher: Hasher = digest.hasher()
        self._threads = threads
        self._file = path.open("a+b", buffering=0)
        self.reader: BlobReader = FileReader(self._file, threads, 0)
        try:
            self._hash_again()
        except BaseException:
            self._file.close()
            raise
        self.reader.size = self.hashed

    def __repr__(self) -> str:
        return f"<PartialFile of {self.digest}: {self.written} bytes, {self.hashed} hashed>"

    def _hash_again(self) -> None:
        self._file.seek(0)
        while piece := self._file.read(_SLICE):
            self._hash([piece])
            go_on(self._threads.halted)

    @property
    def written(self) -> int:
        """The bytes in the file."""
        return self.reader.size

    @property
    def proven(self) -> bool:
        """Whether the hashed bytes match the digest."""
        return self._hasher.hexdigest() == self.digest.hex

    def hasher(self) -> Hasher:
        """Return a copy of the running hash."""
        return self._hasher.copy()

    async def hash(self, pieces: Sequence[bytes]) -> None:
        """Hash the next bytes: few of them at once, more on a thread."""
        if sum(map(len, pieces)) <= _AT_ONCE:
            self._hash(pieces)
        else:
            await self._threads.run_read(self._hash, pieces)

    def _hash(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self._hasher.update(piece)
            self.hashed += len(piece)

    async def append(self, pieces: Sequence[bytes]) -> None:
        """Write the next bytes; raises StorageError, after which `written` is still right."""
        await self._threads.run(self._append, pieces)

    def _append(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                count = self._file.write(view)  # a raw file may take less than it is given
                self.reader.size += count
                view = view[count:]

    async def copy(self, source: BlobReader, length: int) -> None:
        """Hash and write the first `length` bytes of another blob; raises StorageError."""
        descriptor = source.fileno()
        if descriptor is not None:
            await self._threads.run(self._copy, descriptor, length)
            return
        while self.written < length:
            piece = bytes(await source.read(self.written, min(self.written + _SLICE, length)))
            if not piece:
                raise Damaged("a partial was truncated")
            await self.hash([piece])
            await self.append([piece])

    def _copy(self, descriptor: int, length: int) -> None:
        while self.written < length:
            go_on(self._threads.halted)
            piece = os.pread(descriptor, min(_SLICE, length - self.written), self.written)
            if not piece:
                raise OSError(errno.EIO, "a partial was truncated")
            self._hash([piece])
            self._append([piece])

    async def start_over(self) -> None:
        """Discard all bytes; raises StorageError."""
        await self._threads.run(self._start_over)

    def _start_over(self) -> None:
        self._file.truncate(0)
        self._hasher = self.digest.hasher()
        self.hashed = self.reader.size = 0

    async def commit(self) -> int:
        """Publish the file as a blob; returns its modification time. Raises StorageError."""
        return await self._threads.run(self._commit)

    def _commit(self) -> int:
        self._sync()  # the bytes before the name: a name must never lead to missing bytes
        changed_at = self._path.stat().st_mtime_ns
        self._rename(self._path, self.digest)
        return changed_at

    def _sync(self) -> None:
        if not self._file.closed:
            os.fdatasync(self._file.fileno())
            return
        with self._path.open("r+b", buffering=0) as file:
            os.fdatasync(file.fileno())

    async def remove(self) -> None:
        """Remove the file's name; raises StorageError."""
        await self._threads.run(self.unlink)

    def unlink(self) -> None:
        """Remove the file's name. Blocks; raises OSError."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; the written bytes stay for a later fetch to resume."""
        self.reader.close()
