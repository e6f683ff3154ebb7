"""Errors of the data folder: their kinds, and messages for the operator."""

from __future__ import annotations

import errno
import threading

from mirror.util.command_error import CommandError

_OUT_OF = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ECANCELED}
)
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


def says_nothing(error: OSError) -> bool:
    """Whether an error is about this process or is temporary, and says nothing about the file."""
    return error.errno in _OUT_OF


def is_of_disk(error: OSError) -> bool:
    """Whether an error means that the disk is full, read-only or broken."""
    return error.errno in _DISK


def is_of_stop(error: Exception) -> bool:
    """Whether an error means that the mirror is stopping, and starts no more disk I/O."""
    return isinstance(error, OSError) and error.errno == errno.ECANCELED


def in_words(error: Exception) -> str:
    """Return an error's text from the system or SQLite, without Python's numbers and quotes."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error)


def go_on(halted: threading.Event) -> None:
    """Raise OSError if the mirror is stopping: long operations call this between two pieces."""
    if halted.is_set():
        raise stopping()


def stopping() -> OSError:
    """Return the error for disk I/O that is refused during a stop."""
    return OSError(errno.ECANCELED, "the mirror is stopping")


class StoreError(CommandError):
    """The data folder cannot be used; the message names it and the reason."""


class NoRoomError(Exception):
    """`max_size` leaves no room for this content, even after evicting all that may be evicted."""
