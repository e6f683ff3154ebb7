"""A partial: a blob being written, hashed and appended in order. Blocking calls."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from mirror.oci.digest import Digest, Hasher
from mirror.storage.errors import go_on

_SLICE = 1024 * 1024  # bytes per read when a partial is hashed again


class Partial:
    """The file of a blob being fetched; its bytes are hashed and written in order.

    Many readers share `file`, each at its own offset; it stays valid after publishing and
    unlinking. `hashed` and `written` are counts of bytes; either may be ahead of the other. Long
    reads end with OSError once `halted` is set; the bytes so far stay.
    """

    def __init__(self, digest: Digest, path: Path, halted: threading.Event) -> None:
        self.digest = digest
        self.path = path
        self._hasher: Hasher = digest.hasher()
        self.file = path.open("a+b", buffering=0)
        self.hashed = 0
        self._halted = halted
        try:
            self._hash_again()
        except BaseException:
            self.file.close()
            raise
        self.written = self.hashed

    def _hash_again(self) -> None:
        self.file.seek(0)
        while piece := self.file.read(_SLICE):
            self.hash([piece])
            go_on(self._halted)

    def hash(self, pieces: Iterable[bytes]) -> None:
        """Hash the next bytes."""
        for piece in pieces:
            self._hasher.update(piece)
            self.hashed += len(piece)

    def write(self, pieces: Iterable[bytes]) -> None:
        """Write the next bytes; raises OSError, after which `written` is still right."""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                count = self.file.write(view)  # a raw file may take less than it is given
                self.written += count
                view = view[count:]

    def take_in(self, file: IO[bytes], length: int) -> None:
        """Copy the first `length` bytes of another file; raises OSError."""
        while self.written < length:
            go_on(self._halted)
            size = min(_SLICE, length - self.written)
            piece = os.pread(file.fileno(), size, self.written)
            if not piece:
                raise OSError(errno.EIO, "a partial was truncated")
            self.hash([piece])
            self.write([piece])

    def start_over(self) -> None:
        """Discard all bytes; raises OSError."""
        self.file.truncate(0)
        self._hasher = self.digest.hasher()
        self.hashed = self.written = 0

    @property
    def proven(self) -> bool:
        """Whether the hashed bytes match the digest."""
        return self._hasher.hexdigest() == self.digest.hex

    def hasher(self) -> Hasher:
        """Return a copy of the running hash, for a follower that continues without the disk."""
        return self._hasher.copy()

    def sync(self) -> None:
        """Sync the bytes to the disk."""
        os.fdatasync(self.file.fileno())

    def unlink(self) -> None:
        """Remove the file's name; raises OSError."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; the written bytes stay for a later fetch to resume."""
        self.file.close()
