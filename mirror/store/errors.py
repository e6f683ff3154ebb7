"""What can go wrong with the data folder, in words for the operator."""

from __future__ import annotations

import errno
import threading

from mirror.failure import CommandFailed

_OUT_OF = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ECANCELED}
)
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


def says_nothing(error: OSError) -> bool:
    """Whether an error is about this process, or passes by, and not about the file it met."""
    return error.errno in _OUT_OF


def is_of_disk(error: OSError) -> bool:
    """Whether an error means that the disk is full, read-only or broken."""
    return error.errno in _DISK


def is_of_stop(error: Exception) -> bool:
    """Whether an error means that the mirror stops, and begins nothing more on the disk."""
    return isinstance(error, OSError) and error.errno == errno.ECANCELED


def in_words(error: Exception) -> str:
    """Say what the system or SQLite says, without Python's numbers and quotes."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error)


def go_on(halted: threading.Event) -> None:
    """Raise OSError where the mirror stops: what takes long looks at it between two pieces."""
    if halted.is_set():
        raise stopping()


def stopping() -> OSError:
    """Return what is raised where nothing more is begun."""
    return OSError(errno.ECANCELED, "the mirror stops")


class StoreError(CommandFailed):
    """The data folder cannot be used; the message names it and the reason."""


class NoRoomError(Exception):
    """The bound leaves no room for this content, whatever is evicted."""
