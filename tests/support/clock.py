"""A clock for parts that take theirs from outside."""

from __future__ import annotations

import time


class Clock:
    """A clock that is set by hand, in seconds; its wall clock goes on with it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._began = time.time()

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def wall(self) -> float:
        """Return the time since the epoch."""
        return self._began + self.now
