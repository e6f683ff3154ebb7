"""Errors of the storage: their kinds, and messages for the operator."""

from __future__ import annotations

import errno
import threading

from mirror.util.command_error import CommandError

_TEMPORARY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR})
_DAMAGE = frozenset({errno.EIO, errno.EISDIR, errno.ENODATA, errno.EUCLEAN, errno.ESTALE})
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


class StorageError(Exception):
    """Content could not be read, written or removed, for a `reason` in the system's words.

    `where` is the file or folder, if it is known.
    """

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(f"{reason} ({where})" if where else reason)
        self.reason = reason


class NotStored(StorageError):
    """The store has no such blob."""


class Damaged(StorageError):
    """The disk cannot return the blob's bytes."""


class Unavailable(StorageError):
    """An error of this process or of this moment; it says nothing about the blob."""


class Stopping(Unavailable):
    """The mirror is stopping, and begins no more work on the disk."""

    def __init__(self) -> None:
        super().__init__("the mirror is stopping")


class NoRoom(StorageError):
    """`max_size` leaves no room for this content, even after evicting all that may be evicted."""


class StoreError(CommandError):
    """The data folder cannot be used; the message names it and the reason."""


def storage_error(error: OSError) -> StorageError:
    """Return the storage's error for one of the system."""
    kind: type[StorageError] = StorageError
    if error.errno == errno.ENOENT:
        kind = NotStored
    elif error.errno in _DAMAGE:
        kind = Damaged
    elif error.errno in _TEMPORARY:
        kind = Unavailable
    return kind(error.strerror or str(error), str(error.filename or ""))


def is_of_disk(error: OSError) -> bool:
    """Whether an error means that the disk is full, read-only or broken."""
    return error.errno in _DISK


def in_words(error: Exception) -> str:
    """Return an error's text from the system or SQLite, without Python's numbers and quotes."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error)


def go_on(halted: threading.Event) -> None:
    """Raise Stopping if the mirror is stopping: long operations call this between two pieces."""
    if halted.is_set():
        raise Stopping


class TooManyPins(Exception):
    """An image cannot be pinned; the message says why, in one line."""
