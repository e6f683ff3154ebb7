"""The pace of this machine: bounds on the work of a step are those of a quiet machine.

A busy machine slows the thread's own time as well: caches and cores are shared with other programs,
and a virtual machine's clock rate changes from day to day.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mirror.util.gc_pause import gc_paused

_QUIET = 0.0022  # seconds that the yardstick takes on the machine of the bounds (measured)
_MOST = 3.0  # a machine that is slower than this cannot hold any bound
# Runs of a test that has exceeded such a bound, and nothing else. Work takes its time in each run;
# a virtual machine that is held for 50 ms by its host adds them to a step of half a millisecond
# (measured), as time of the thread, in one run.
AGAIN = pytest.mark.flaky(reruns=2, only_rerun=[r"Longest\(seconds", "of the thread's time"])


def slowness() -> float:
    """Return how many times longer work takes now than on the machine of the bounds, 1 to 3."""
    took = statistics.median(_yardstick() for _ in range(5))
    return min(max(took / _QUIET, 1.0), _MOST)


@contextmanager
def at_most(seconds: float, what: str = "") -> Iterator[None]:
    """Hold that the work within takes at most so long of the thread's time, by this machine's pace.

    Garbage collection is put off: it would look through what all tests before have left.
    """
    with gc_paused():
        began = time.thread_time()
        yield
        took = time.thread_time() - began
    shown = f"{took:.4f} s of the thread's time {what}"
    assert took < seconds or took < seconds * slowness(), shown


def _yardstick() -> float:
    """Return the seconds of the thread's time for work as the mirror's: strings, dicts, a sort."""
    began = time.thread_time()
    made = {f"{number:08x}": [number] for number in range(6000)}
    sum(len(key) + value[0] for key, value in sorted(made.items()))
    return time.thread_time() - began
