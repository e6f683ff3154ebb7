"""Layouts being exported: a folder or a tar archive, there under its name once it is whole.

The same images make the same bytes, whenever they are exported.
"""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from mirror.admin.archives.tar_writer import LayoutWriter, TarWriter
from mirror.cli.archives.caller import Caller
from mirror.util.command_error import CommandError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def open_writer(output: str, stdout: BinaryIO, *, force: bool) -> LayoutWriter:
    """Return the writer of a new layout: `-` is the standard output, `.tar` an archive.

    Raises CommandError.
    """
    if output == "-":
        if stdout.isatty():
            raise CommandError("an archive is not for a terminal: redirect it, or name a file")
        return TarWriter(stdout)
    path = Path(output).absolute()
    is_tar = path.suffix == ".tar"
    try:
        if is_tar:
            _refuse_existing(path, force=force)
            return TarFileWriter(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise CommandError(f"{path} exists: name a new folder, or a file that ends in .tar")
        return FolderWriter(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None


def _refuse_existing(path: Path, *, force: bool) -> None:
    if os.path.lexists(path) and not (force and path.is_file() and not path.is_symlink()):
        more = "" if force else "; --force replaces a file"
        raise CommandError(f"{path} exists{more}")


class _Place:
    """The folder of a new layout, open from the start, and the layout's name in it.

    Another user with write access to that folder may put links in the place of any path: so all
    goes by the open folder, and no link is followed.
    """

    def __init__(self, path: Path) -> None:
        self._caller = Caller()
        self._name = path.name
        self.new = f".{path.name}.{os.getpid()}.new"  # until it is whole
        self.folder = os.open(path.parent, _FOLDER)

    def rights(self) -> AbstractContextManager[None]:
        """Act as the command's caller within the context."""
        return self._caller.rights()

    def appear(self) -> None:
        """Give the new layout its name; raises OSError."""
        with self.rights():
            os.rename(self.new, self._name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
            os.fsync(self.folder)


class TarFileWriter(TarWriter):
    """An archive in a file, which has another name until it is whole."""

    def __init__(self, path: Path) -> None:
        self._place = _Place(path)
        file = os.open(self._place.new, _NEW_FILE, 0o600, dir_fd=self._place.folder)
        self._out = os.fdopen(file, "wb")
        super().__init__(self._out)

    def finish(self) -> None:
        """End the archive, and give it its name."""
        super().finish()
        os.fsync(self._out.fileno())
        self._out.close()
        self._place.appear()

    def abandon(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self._out.close()
        with self._place.rights(), suppress(FileNotFoundError):
            os.unlink(self._place.new, dir_fd=self._place.folder)


class FolderWriter:
    """A folder, which has another name until it is whole."""

    def __init__(self, path: Path) -> None:
        self._place = _Place(path)
        os.mkdir(self._place.new, 0o700, dir_fd=self._place.folder)
        self._root = os.open(self._place.new, _FOLDER | os.O_NOFOLLOW, dir_fd=self._place.folder)
        self._made: dict[str, int] = {}  # its folders, open
        self._out: FileIO | None = None

    def begin(self, path: str, size: int) -> None:  # noqa: ARG002 - an archive needs the size
        """Begin a file; raises OSError."""
        self._end()
        above, _, name = path.rpartition("/")
        with self._place.rights():
            file = os.open(name, _NEW_FILE, 0o600, dir_fd=self._folder(above))
        self._out = os.fdopen(file, "wb", buffering=0)

    def _folder(self, path: str) -> int:
        """Return a folder of the layout, open; it is made if there is none."""
        if not path:
            return self._root
        if path not in self._made:
            above, _, name = path.rpartition("/")
            parent = self._folder(above)
            os.mkdir(name, 0o700, dir_fd=parent)
            self._made[path] = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
        return self._made[path]

    def write(self, data: bytes) -> None:
        """Write bytes; raises OSError."""
        view = memoryview(data)
        while view and self._out is not None:
            view = view[self._out.write(view) :]

    def _end(self) -> None:
        if self._out is not None:
            os.fsync(self._out.fileno())
            self._out.close()
            self._out = None

    def finish(self) -> None:
        """Give the folder its name: an empty folder of that name is replaced."""
        self._end()
        for folder in (*self._made.values(), self._root):
            os.fsync(folder)
        self._place.appear()

    def abandon(self) -> None:
        """Remove the folder."""
        if self._out is not None:
            self._out.close()
        with self._place.rights():
            shutil.rmtree(self._place.new, ignore_errors=True, dir_fd=self._place.folder)
