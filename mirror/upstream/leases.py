"""Leases: whether anything still goes on with an upstream that is configured no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Leases:
    """Counts what goes on: questions, connections that are in use, fetches and their followers."""

    def __init__(self) -> None:
        self._held = 0
        self._ever = 0
        self._none = asyncio.Event()
        self._none.set()

    def __repr__(self) -> str:
        return f"<Leases: {self._held} held>"

    def take(self) -> None:
        """Count one in; `give` is owed."""
        self._held += 1
        self._ever += 1
        self._none.clear()

    def give(self) -> None:
        """Count one out."""
        self._held -= 1
        if not self._held:
            self._none.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold one."""
        self.take()
        try:
            yield
        finally:
            self.give()

    async def over(self, quiet: float) -> None:
        """Wait until none was held for so many seconds: between two questions there is none."""
        while True:
            await self._none.wait()
            before = self._ever
            await asyncio.sleep(quiet)
            if not self._held and self._ever == before:
                return
