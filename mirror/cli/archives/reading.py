"""Layouts to import: opened by their path, a folder or a tar archive; nothing in them is trusted.

Only `index.json` and the content that is asked for are read. Sizes are those of the files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Protocol, TypeAlias

from mirror.admin.archives.offered import OLD, without_index
from mirror.cli.archives.caller import Caller
from mirror.cli.archives.tar_members import Member, members
from mirror.oci.layout import INDEX, LayoutInvalid, Root, read_index
from mirror.oci.manifest import MAX_SIZE

PIECE = 1024 * 1024  # bytes
# Not blocking: a pipe in the place of a file would wait for its writer.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


# The size of a file in bytes, and its bytes in pieces.
Opened: TypeAlias = tuple[int, Iterator[bytes]]


class Layout(Protocol):
    """An open layout."""

    def open(self, path: str) -> Opened | None:
        """Open a file, to be read to its end; None if there is none. Raises LayoutInvalid."""

    def close(self) -> None:
        """Close it."""


def open_layout(path: Path) -> Layout:
    """Open a layout; raises LayoutInvalid, or OSError."""
    return FolderLayout(path) if path.is_dir() else TarLayout(path)


def roots(layout: Layout) -> list[Root]:
    """Return the descriptors of index.json; raises LayoutInvalid."""
    found = layout.open(INDEX)
    if found is None:
        raise without_index(is_old=layout.open(OLD) is not None)
    size, pieces = found
    if size > MAX_SIZE:
        raise LayoutInvalid(f"{INDEX} has more than {MAX_SIZE} bytes")
    return read_index(b"".join(pieces))


class TarLayout:
    """A layout in a tar archive, which is not compressed and can be read at any place."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(os.open(path, _FILE), "rb", buffering=0)
        try:
            _check_regular(self._file)
            self._members = members(self._file.fileno())
        except BaseException:
            self._file.close()
            raise

    def open(self, path: str) -> Opened | None:
        """Open a file, None if there is none."""
        member = self._members.get(path)
        return None if member is None else (member.size, self._pieces(path, member))

    def _pieces(self, path: str, member: Member) -> Iterator[bytes]:
        position, end = member.start, member.start + member.size
        while position < end:
            data = _read(path, os.pread, self._file.fileno(), min(PIECE, end - position), position)
            if not data:
                raise LayoutInvalid(f"{path} is cut off")
            position += len(data)
            yield data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FolderLayout:
    """A layout in a folder; links in it are not followed."""

    def __init__(self, path: Path) -> None:
        self._caller = Caller()
        self._folder = os.open(path, _FOLDER)

    def open(self, path: str) -> Opened | None:
        """Open a file, None if there is none; raises LayoutInvalid."""
        try:
            with self._caller.rights():
                file = os.fdopen(self._open(path), "rb", buffering=0)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LayoutInvalid(f"{path} cannot be read: {error.strerror}") from None
        try:
            return _check_regular(file, path), _pieces(path, file)
        except LayoutInvalid:
            file.close()
            raise

    def _open(self, path: str) -> int:
        """Open a file without following a link, at any level; raises OSError."""
        *above, name = path.split("/")
        folder = os.dup(self._folder)
        try:
            for each in above:
                inner = os.open(each, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            return os.open(name, _FILE | os.O_NOFOLLOW, dir_fd=folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Close the folder."""
        os.close(self._folder)


def _pieces(path: str, file: FileIO) -> Iterator[bytes]:
    with file:
        while data := _read(path, file.read, PIECE):
            yield data


def _read(path: str, read: Callable[..., bytes], *args: int) -> bytes:
    """Read bytes; raises LayoutInvalid if the disk fails."""
    try:
        return read(*args)
    except OSError as error:
        raise LayoutInvalid(f"{path} cannot be read: {error.strerror}") from None


def _check_regular(file: FileIO, name: str = "it") -> int:
    """Return the size of a regular file in bytes; raises LayoutInvalid for any other file."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise LayoutInvalid(f"{name} is no regular file")
    return found.st_size
