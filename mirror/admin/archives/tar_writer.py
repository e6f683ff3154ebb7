"""A layout as a tar archive, written to a stream in one go; and what every writer of layouts does.

The same images make the same bytes, whenever they are exported.
"""

from __future__ import annotations

import tarfile
from typing import Protocol

_BLOCK = 512


class Stream(Protocol):
    """The place where the bytes of an archive go."""

    def write(self, data: bytes, /) -> object:
        """Write bytes; raises OSError."""

    def flush(self) -> object:
        """Hand on all written bytes; raises OSError."""


class LayoutWriter(Protocol):
    """Writes files one after the other; `finish` makes the layout appear, `abandon` removes it."""

    def begin(self, path: str, size: int) -> None:
        """Begin a file; the last one is whole."""

    def write(self, data: bytes) -> None:
        """Write the next bytes of the file; raises OSError."""

    def finish(self) -> None:
        """Make the layout appear under its name, on the disk; raises OSError."""

    def abandon(self) -> None:
        """Remove the written files, after an error."""


class TarWriter:
    """An archive that is written to a stream."""

    def __init__(self, file: Stream) -> None:
        self._file = file
        self._position = 0

    def begin(self, path: str, size: int) -> None:
        """Begin a file: its header follows the padding of the last one."""
        self._pad(_BLOCK)
        info = tarfile.TarInfo(path)
        info.size, info.mode, info.mtime = size, 0o644, 0
        self.write(info.tobuf(tarfile.PAX_FORMAT))

    def write(self, data: bytes) -> None:
        """Write bytes; raises OSError."""
        self._file.write(data)
        self._position += len(data)

    def _pad(self, unit: int) -> None:
        self.write(bytes(-self._position % unit))

    def finish(self) -> None:
        """Write the end of the archive."""
        self._pad(_BLOCK)
        self.write(bytes(2 * _BLOCK))
        self._pad(tarfile.RECORDSIZE)
        self._file.flush()

    def abandon(self) -> None:
        """Leave the archive without index.json and without an end: no reader takes it for whole."""
