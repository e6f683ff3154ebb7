"""A partial: a blob on its way to the disk, hashed and written in order. Blocking calls."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from mirror.oci.digest import Digest, Hasher
from mirror.store.errors import go_on

_SLICE = 1024 * 1024  # bytes per read when a partial is hashed again


class Partial:
    """A blob on its way: hashed and written, each in order, and followed by many readers.

    They all read `file`, each at places of its own; it stays good after publishing and unlinking.
    `hashed` and `written` are how far those are, in bytes; either may be ahead of the other. What
    reads long ends with OSError once `halted` is set; what there is stays.
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
        """Hash what comes next."""
        for piece in pieces:
            self._hasher.update(piece)
            self.hashed += len(piece)

    def write(self, pieces: Iterable[bytes]) -> None:
        """Write what comes next; raises OSError, after which `written` is still right."""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                count = self.file.write(view)  # a raw file may take less than it is given
                self.written += count
                view = view[count:]

    def take_in(self, file: IO[bytes], length: int) -> None:
        """Hash and write the first bytes of another file; raises OSError."""
        while self.written < length:
            go_on(self._halted)
            size = min(_SLICE, length - self.written)
            piece = os.pread(file.fileno(), size, self.written)
            if not piece:
                raise OSError(errno.EIO, "a partial is shorter than it was")
            self.hash([piece])
            self.write([piece])

    def start_over(self) -> None:
        """Throw away what there is; raises OSError."""
        self.file.truncate(0)
        self._hasher = self.digest.hasher()
        self.hashed = self.written = 0

    @property
    def proven(self) -> bool:
        """Whether what was hashed is what the digest names."""
        return self._hasher.hexdigest() == self.digest.hex

    def hasher(self) -> Hasher:
        """Return a copy of the hash so far, for whoever goes on without the disk."""
        return self._hasher.copy()

    def sync(self) -> None:
        """Bring the bytes to the disk."""
        os.fdatasync(self.file.fileno())

    def unlink(self) -> None:
        """Take its name from it; raises OSError."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop writing; what was written stays for the next one to resume."""
        self.file.close()
