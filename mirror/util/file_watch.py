"""A watch on files: notices that one of them has changed, without reading it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

_Stamp: TypeAlias = tuple[tuple[int, int, int], ...]


class FileWatch:
    """Compares times, inodes and sizes with those of the last look.

    The first look is at construction: construct the watch before the files are read, so that a
    change during the reading is noticed later.
    """

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._stamp = _stamp(files)

    def __repr__(self) -> str:
        return f"<FileWatch of {', '.join(map(str, self._files))}>"

    async def changed(self) -> bool:
        """Whether a file has changed since the last look. While one is missing, all count as one.

        A change is reported once.
        """
        before, self._stamp = self._stamp, await asyncio.to_thread(_stamp, self._files)
        return self._stamp != before


def _stamp(files: Sequence[Path]) -> _Stamp:
    """Return a value that changes with the files; empty if one is missing."""
    try:
        found = [file.stat() for file in files]
    except OSError:
        return ()
    return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in found)
