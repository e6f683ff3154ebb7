"""Layouts being exported: a folder or a tar archive, there under its name once it is whole.

The same images make the same bytes, whenever they are exported.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from mirror.cli.archives.caller import Caller
from mirror.util.command_error import CommandError

_BLOCK = 512


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


class TarWriter:
    """An archive that is written to a stream."""

    def __init__(self, file: BinaryIO) -> None:
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


class TarFileWriter(TarWriter):
    """An archive in a file, which has another name until it is whole."""

    def __init__(self, path: Path) -> None:
        self._caller = Caller()
        self._path = path
        self._new = path.with_name(f".{path.name}.{os.getpid()}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._out = os.fdopen(os.open(self._new, flags, 0o600), "wb")
        super().__init__(self._out)

    def finish(self) -> None:
        """End the archive, and give it its name."""
        super().finish()
        os.fsync(self._out.fileno())
        self._out.close()
        with self._caller.rights():
            self._new.replace(self._path)
            _sync(self._path.parent)

    def abandon(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self._out.close()
        with self._caller.rights():
            self._new.unlink(missing_ok=True)


class FolderWriter:
    """A folder, which has another name until it is whole."""

    def __init__(self, path: Path) -> None:
        self._caller = Caller()
        self._path = path
        self._new = path.with_name(f".{path.name}.{os.getpid()}.new")
        self._new.mkdir(0o700)
        self._out: BinaryIO | None = None

    def begin(self, path: str, size: int) -> None:  # noqa: ARG002 - an archive needs the size
        """Begin a file; raises OSError."""
        self._end()
        file = self._new / path
        with self._caller.rights():
            file.parent.mkdir(0o700, parents=True, exist_ok=True)
            self._out = file.open("xb", buffering=0)

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
        with self._caller.rights():
            for folder, _, _ in os.walk(self._new):
                _sync(Path(folder))
            self._new.rename(self._path)
            _sync(self._path.parent)

    def abandon(self) -> None:
        """Remove the folder."""
        if self._out is not None:
            self._out.close()
        with self._caller.rights():
            shutil.rmtree(self._new, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
