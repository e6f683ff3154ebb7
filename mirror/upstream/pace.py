"""The pace: so many bytes a second over all bodies of an upstream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pace:
    """Bounds what is read to `rate` bytes a second; 0 bounds nothing.

    Who has read waits for as long as that should have taken, behind all who read before: bodies
    share the rate by the piece. What is not read fills the kernel's window, and upstream waits.
    """

    def __init__(
        self,
        rate: int = 0,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._timer = timer
        self._sleep = sleep
        self._due = timer()

    def __repr__(self) -> str:
        return f"<Pace: {self._rate or 'any number of'} bytes/s>"

    async def wait(self) -> None:
        """Wait until the next piece may be read."""
        while self._rate and (wait := self._due - self._timer()) > 0:
            await self._sleep(wait)

    def spend(self, count: int) -> None:
        """Note bytes that were read."""
        if self._rate:
            self._due = max(self._due, self._timer()) + count / self._rate
