"""Single flight: one run for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Running tasks by key. Whoever stops waiting harms neither the task nor other waiters."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __repr__(self) -> str:
        return f"<Flights: {len(self)} running>"

    async def join(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return the running task's result, or that of `start()`, raising what it raises."""
        return await asyncio.shield(self.task(key, start))

    async def share(
        self,
        key: K,
        start: Callable[[], Coroutine[Any, Any, V]],
        passing: Callable[[Exception], bool],
    ) -> V:
        """Return what `join` does, but take no `passing` failure from a task that ran before.

        It is the failure of another's question, which this caller's own might not have met: whoever
        shared it asks once more, together.
        """
        running = self._running.get(key)
        if running is not None:
            try:
                return await asyncio.shield(running)
            except Exception as failure:
                if not passing(failure):
                    raise
        return await self.join(key, start)

    def get(self, key: K) -> asyncio.Task[V] | None:
        """Return the running task, if there is one."""
        return self._running.get(key)

    def task(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> asyncio.Task[V]:
        """Return the running task, or start one."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(start())
            task.add_done_callback(lambda done: self._land(key, done))
        return task

    def _land(self, key: K, task: asyncio.Task[V]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # seen: nobody may be waiting any more, and that is no fault

    async def close(self) -> None:
        """Cancel what runs, and wait until it has ended."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
