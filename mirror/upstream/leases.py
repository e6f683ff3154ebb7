"""Leases: activity in progress with an upstream, so that a removed one is closed when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Leases:
    """Counts requests, connections in use, fetches and followers of one upstream."""

    def __init__(self) -> None:
        self._held = 0
        self._ever = 0
        self._none = asyncio.Event()
        self._none.set()

    def __repr__(self) -> str:
        return f"<Leases: {self._held} held>"

    def take(self) -> None:
        """Start a lease; the caller must `give` it back."""
        self._held += 1
        self._ever += 1
        self._none.clear()

    def give(self) -> None:
        """End a lease."""
        self._held -= 1
        if not self._held:
            self._none.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a lease."""
        self.take()
        try:
            yield
        finally:
            self.give()

    async def over(self, quiet: float) -> None:
        """Wait until no lease was held for `quiet` seconds: two requests may leave a gap."""
        while True:
            await self._none.wait()
            before = self._ever
            await asyncio.sleep(quiet)
            if not self._held and self._ever == before:
                return
