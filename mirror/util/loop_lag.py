"""The lag of the event loop: how late its timers run, and the code that held it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from types import FrameType
from typing import Self

_log = logging.getLogger(__name__)

BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5, 30)  # seconds
_EVERY = 0.05  # seconds between two beats
_LOOK = 0.1  # seconds between two looks of the thread that watches
_OVERDUE = 0.05  # seconds after which the thread takes the stack
_LONG = 0.2  # seconds of lag that are worth a line in the log
_DEEP = 8  # frames of the stack that are named
_BUSY = 1e-3  # seconds; less is the timer's resolution, not a lag


class LoopLag:
    """Measures the loop on which it is entered, by a beat that is due every 50 ms.

    The time that the thread waited for a CPU is subtracted (`/proc/.../schedstat`, where the kernel
    has it): a busy machine is not the fault of the loop's code. A lag of more than 200 ms is logged
    with the stack that another thread took. `counts` are the beats by BOUNDS, `total` their lags in
    seconds, `most` the longest since the start.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        self.most = 0.0
        self._lately = 0.0
        self._due = 0.0
        self._waited = 0.0
        self._seen = (0.0, "")  # the due time of a beat, and the stack taken then
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="loop-lag", daemon=True)

    def __repr__(self) -> str:
        return f"<LoopLag: {self.most:.3f} s at most, {sum(self.counts)} beats>"

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._clock = _WaitClock(threading.get_native_id())
        self._expect(self._loop.time())
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()
        self._ended.set()
        self._watcher.join()
        self._clock.close()

    @property
    def worst(self) -> float:
        """The longest lag since the start or the last `look`, in seconds; a current one counts."""
        return max(self._lately, self._lag(self._loop.time()))

    def look(self) -> float:
        """Return the worst lag, and reset it. For the loop's thread only."""
        worst = self.worst
        self._note(self._lag(self._loop.time()))
        self._handle.cancel()
        self._expect(self._loop.time())
        self._lately = 0.0
        return worst

    def _expect(self, now: float) -> None:
        self._waited = self._clock.read()
        self._due = now + _EVERY
        self._handle = self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        now = self._loop.time()
        self._note(self._lag(now))
        self._expect(now)

    def _lag(self, now: float) -> float:
        late = now - self._due
        if late < _BUSY:
            return 0.0
        return max(0.0, late - (self._clock.read() - self._waited))

    def _note(self, lag: float) -> None:
        """Count the lag of the beat that is due."""
        self.counts[bisect_left(BOUNDS, lag)] += 1
        self.total += lag
        self.most = max(self.most, lag)
        self._lately = max(self._lately, lag)
        if lag > _LONG:
            due, stack = self._seen
            ran = stack if due == self._due else "something that let no other thread run"
            _log.warning("the event loop was held for %.3f s, by %s", lag, ran)

    def _watch(self) -> None:
        """Take the loop's stack while its beat is overdue."""
        while not self._ended.wait(_LOOK):
            due = self._due
            if self._loop.time() - due > _OVERDUE:
                frame = sys._current_frames().get(self._thread)
                self._seen = due, _named(frame)
                del frame  # a frame keeps its function's objects alive


class _WaitClock:
    """Counts the seconds that a thread waited for a CPU; 0 where the kernel does not tell."""

    def __init__(self, thread: int) -> None:
        path = f"/proc/self/task/{thread}/schedstat"  # run and wait in ns (kernel, sched-stats)
        try:
            self._file: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = None

    def read(self) -> float:
        """Return the seconds so far."""
        if self._file is None:
            return 0.0
        return int(os.pread(self._file, 99, 0).split()[1]) / 1e9

    def close(self) -> None:
        """Close the file; `read` returns 0 from now on."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _named(innermost: FrameType | None) -> str:
    """Name the functions of a stack, the innermost first."""
    lines = (
        f"{frame.f_code.co_qualname} ({'/'.join(frame.f_code.co_filename.split('/')[-2:])}:"
        f"{frame.f_lineno})"
        for frame in islice(_frames(innermost), _DEEP)
    )
    return " < ".join(lines)


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
