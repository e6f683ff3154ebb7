"""The longest step of the event loop that a peer causes."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

MOST = 0.05  # seconds of work that anything a peer sends may cost the loop at a time


@dataclass
class Longest:
    """The longest step so far, in seconds that the loop's own thread ran, and its handle.

    `turn` is the longest turn of the loop: all the steps that were due at once.
    """

    seconds: float = 0.0
    what: str = ""
    turn: float = 0.0


@contextmanager
def steps() -> Iterator[Longest]:
    """Measure each step of the loop by what its thread ran: a busy machine adds nothing to it."""
    longest = Longest()
    plain, loop = asyncio.Handle._run, asyncio.get_running_loop()
    once = loop._run_once  # type: ignore[attr-defined]

    def run(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        plain(handle)
        took = time.thread_time() - began
        if took > longest.seconds:
            longest.seconds, longest.what = took, repr(handle)

    def turn() -> None:
        began = time.thread_time()
        once()
        longest.turn = max(longest.turn, time.thread_time() - began)

    gc.collect()
    gc.freeze()  # what the tests before have left behind is looked through by no step
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.Handle, "_run", run)
            patch.setattr(loop, "_run_once", turn)
            yield longest
    finally:
        gc.unfreeze()
