"""Single flight: one run for all callers that ask the same question at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Running tasks by key. A caller that is cancelled harms neither the task nor other callers."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __repr__(self) -> str:
        return f"<SingleFlight: {len(self)} running>"

    async def join(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return the result of the running task, or of `start()`; raises its exception."""
        return await asyncio.shield(self.task(key, start))

    async def share(
        self,
        key: K,
        start: Callable[[], Coroutine[Any, Any, V]],
        passing: Callable[[Exception], bool],
    ) -> V:
        """Like `join`, but a `passing` failure of a task that ran before is not raised.

        Such a failure belongs to an earlier caller's question; this one might not have met it. The
        callers that shared it ask once more, together.
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
            task.exception()  # retrieved: a task without waiters is no fault

    async def close(self) -> None:
        """Cancel all running tasks, and wait until they have ended."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
