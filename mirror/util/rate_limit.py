"""Rate limits in bytes a second: a leaky bucket, shared by all that spend from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class BandwidthLimit:
    """Limits reading to `max_rate` bytes a second; 0 means no limit.

    After a read, further reads wait for as long as it should have taken, so that readers share the
    rate by piece. Time that a slow source lost is not made up for later: that would be a burst. The
    unread bytes of a connection fill the kernel's receive window, which makes the sender wait.
    """

    def __init__(
        self,
        max_rate: int = 0,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._max_rate = max_rate
        self._timer = timer
        self._sleep = sleep
        self._due = timer()

    def __repr__(self) -> str:
        return f"<BandwidthLimit: {self._max_rate or 'any number of'} bytes/s>"

    async def wait(self) -> None:
        """Wait until the next piece may be read."""
        while self._max_rate and (wait := self._due - self._timer()) > 0:
            await self._sleep(wait)

    def spend(self, count: int) -> None:
        """Count bytes that were read."""
        if self._max_rate:
            self._due = max(self._due, self._timer()) + count / self._max_rate
