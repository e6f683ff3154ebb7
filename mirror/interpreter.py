"""The interpreter, set up for an event loop that shares it with threads and a large heap."""

from __future__ import annotations

import gc
import sys

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
