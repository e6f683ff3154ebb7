"""A part that a start does not load: a thread makes it when it is used first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from mirror.util.detached import DetachedThreads
from mirror.util.singleflight import SingleFlight

T_co = TypeVar("T_co", covariant=True)


class Deferred(Generic[T_co]):
    """A part of the daemon, made by `make` on a thread, because it imports modules.

    The thread is a separate one: those of the loop may all wait for a disk that hangs. Callers that
    come meanwhile wait for the same part. After a failure the next use tries again. `made` is None
    until the part is there.
    """

    def __init__(self, make: Callable[[], T_co]) -> None:
        self._make = make
        self.made: T_co | None = None
        self._running: SingleFlight[None, T_co] = SingleFlight()

    def __repr__(self) -> str:
        return f"<Deferred: {self.made!r}>"

    async def get(self) -> T_co:
        """Return the part; raises what `make` raises."""
        return await self._running.join(None, self._load) if self.made is None else self.made

    async def close(self) -> None:
        """Wait for no part that is being made."""
        await self._running.close()

    async def _load(self) -> T_co:
        thread = DetachedThreads(1, "load")
        try:
            made = await asyncio.wrap_future(thread.submit(self._make))
        finally:
            thread.close()
        # No caller sets it: another one may come before that caller runs, and would load anew.
        self.made = made
        return made
