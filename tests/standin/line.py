"""The line: one bandwidth shared by all senders."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

CATCH_UP = 0.05  # seconds by which a sender may wake late and still catch up
SMALL, LARGE = 64 * 1024, 256 * 1024


class Line:
    """A rate of bytes per second, in turns.

    An idle line saves no time up, but a sender that wakes late catches up.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.chunk = int(min(max(rate / 1000, SMALL), LARGE, max(rate / 20, 1)))
        self._free_at = 0.0
        self._senders = 0

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Hold the line busy for the length of a body."""
        if not self._senders:
            self._free_at = max(self._free_at, time.monotonic())
        self._senders += 1
        try:
            yield
        finally:
            self._senders -= 1

    async def turn(self, size: int) -> None:
        """Wait until `size` more bytes have had their time on the line."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now - CATCH_UP) + size / self.rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)

    def __repr__(self) -> str:
        return f"<Line: {self.rate:.0f} bytes/s, {self._senders} senders>"
