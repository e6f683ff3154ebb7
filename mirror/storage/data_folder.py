"""The data folder: made, checked and locked before anything in it is used. Blocking calls."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mirror.storage import folder, lock
from mirror.storage.errors import StoreError
from mirror.storage.shared_folders import refuse_shared
from mirror.util import permissions

_PARTS = ("blobs", "partial", "quarantine")


class DataFolder:
    """The folder of one mirror, locked while it is in use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: IO[bytes] | None = None

    def __repr__(self) -> str:
        return f"<DataFolder: {self.root}>"

    def prepare(self) -> None:
        """Create the folders and lock them against a second daemon; raises StoreError."""
        refuse_shared(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            folder.check(self.root)
            folder.close_to_others(self.root)
            for part in _PARTS:
                (self.root / part).mkdir(exist_ok=True)
            self._lock = lock.take(self.root)
        except OSError as error:
            raise self.unwritable(error) from None

    def unwritable(self, error: OSError) -> StoreError:
        """Return the error that says why the folder cannot be written to."""
        why = permissions.explain_refusal(error, self.root)
        return StoreError(f"cannot write to the data folder {self.root}: {why}")

    def release(self) -> None:
        """Unlock the folder for another daemon."""
        if self._lock is not None:
            self._lock.close()

    def files(self) -> Iterator[tuple[str, int]]:
        """List the files beside the folders of blobs, with their sizes in bytes. Raises OSError."""
        return files_in(self.root)


def files_in(folder: Path) -> Iterator[tuple[str, int]]:
    """List the files of a folder, with their sizes in bytes. Raises OSError."""
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            if entry.is_file(follow_symlinks=False):
                yield entry.name, entry.stat(follow_symlinks=False).st_size


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to the disk; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
