"""The longest step of the event loop that a peer causes."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.support.pace import slowness

MOST = 0.05  # seconds of work that anything a peer sends may cost the loop at a time


@dataclass
class Longest:
    """The longest step so far, in seconds that the loop's own thread ran, and its handle.

    At the end the seconds are brought to the pace of the machine that the bounds were set on.
    `turn` is the longest turn of the loop: all the steps that were due at once.
    """

    seconds: float = 0.0
    what: str = ""
    turn: float = 0.0


@contextmanager
def steps() -> Iterator[Longest]:
    """Measure each step of the loop by what its thread ran: a wait for a CPU adds nothing to it."""
    longest = Longest()
    plain, loop = asyncio.Handle._run, asyncio.get_running_loop()
    once = loop._run_once  # type: ignore[attr-defined]
    shown = 0.0  # seconds that this turn spent on showing handles

    def run(handle: asyncio.Handle) -> None:
        nonlocal shown
        began = time.thread_time()
        plain(handle)
        ended = time.thread_time()
        if ended - began > longest.seconds:
            longest.seconds, longest.what = ended - began, repr(handle)
            shown += time.thread_time() - ended

    def turn() -> None:
        nonlocal shown
        began, shown = time.thread_time(), 0.0
        once()
        longest.turn = max(longest.turn, time.thread_time() - began - shown)

    before = slowness()
    gc.collect()
    gc.freeze()  # what the tests before have left behind is looked through by no step
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.Handle, "_run", run)
            patch.setattr(loop, "_run_once", turn)
            yield longest
    finally:
        gc.unfreeze()
        pace = max(before, slowness())
        longest.seconds, longest.turn = longest.seconds / pace, longest.turn / pace
