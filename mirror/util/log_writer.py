"""The log writer: lines for standard error, written by a thread, so that no caller waits."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Self

STANDARD_ERROR = 2
_MOST = 16 * 1024**2  # characters, nearly all ASCII, that wait for a reader that has stalled
_SPARE = 1024**2  # more characters, for urgent lines
_AT_ONCE = 256 * 1024  # characters joined for one write
_BEHIND = 0.2  # seconds for which lines are collected that are not urgent
_LAST = 3.0  # seconds, at the end, for a reader to read the waiting lines


class LogWriter:
    """Writes lines to a descriptor in the order of their arrival, from any thread.

    A reader that stalls costs lines, not time: beyond a bound, lines are dropped and counted, and a
    line in their place, made by `notice`, gives their number. Entering starts the thread; leaving
    writes the waiting lines, for at most three seconds: then the descriptor becomes the null
    device, so that no other part of the process waits for that reader. A logging handler before it
    has to share `lock`: garbage that is collected while the lock is held may have something to log.
    """

    def __init__(self, descriptor: int, notice: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._notice = notice
        self._lines: deque[str] = deque()
        self._waiting = 0  # characters
        self._untold = 0  # lines
        self.dropped = 0
        self.lock = threading.RLock()
        self._filled, self._urgent = threading.Event(), threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __repr__(self) -> str:
        return f"<LogWriter: {len(self._lines)} lines waiting, {self.dropped} dropped>"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._urgent.set()
        self._filled.set()
        try:
            self._thread.join(_LAST)
        finally:
            if self._thread.is_alive():
                _silence(self._descriptor)

    def add(self, line: str, *, urgent: bool = False) -> None:
        """Add a line, with its line end; an urgent one is written at once."""
        most = _MOST + _SPARE if urgent else _MOST
        with self.lock:
            if self._waiting + len(line) > most:
                self.dropped += 1
                self._untold += 1
            else:
                if self._untold:
                    self._tell()
                self._append(line)
        if urgent:
            self._urgent.set()
        if not self._filled.is_set():
            self._filled.set()
        if self._ending and not self._thread.is_alive():
            self._write_all()

    def _append(self, line: str) -> None:
        self._waiting += len(line)
        self._lines.append(line)

    def _tell(self) -> None:
        """Add a notice of dropped lines, in their place."""
        self._append(self._notice(self._untold))
        self._untold = 0

    def _run(self) -> None:
        while not self._ending:
            self._filled.wait()
            self._urgent.wait(_BEHIND)
            self._filled.clear()
            self._urgent.clear()
            self._write_all()
        self._write_all()  # lines added since

    def _write_all(self) -> None:
        while lines := self._take():
            text = "".join(lines)
            written = self._write(text.encode("utf-8", "backslashreplace"))
            with self.lock:
                self._waiting -= len(text)
                if not written:
                    self.dropped += len(lines)
                    self._untold += len(lines)
                    return

    def _take(self) -> list[str]:
        """Take the lines of the next write."""
        lines: list[str] = []
        size = 0
        with self.lock:
            if self._untold and not self._lines:
                self._tell()
            while self._lines and size < _AT_ONCE:
                lines.append(self._lines.popleft())
                size += len(lines[-1])
        return lines

    def _write(self, data: bytes) -> bool:
        """Write all data, for as long as the reader takes; returns whether that was possible."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process may have set that: a terminal is shared
                select.select([], [self._descriptor], [])
            except OSError:  # there is no log for this: the metric counts it
                return False
        return True


def _silence(descriptor: int) -> None:
    """Redirect a descriptor to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
