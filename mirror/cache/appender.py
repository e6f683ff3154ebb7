"""Writing behind the network: what arrives while the disk is busy goes there in large steps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mirror.store.files import Partial
from mirror.store.store import Store

# Each step costs a hop to a thread and wakes every follower, whatever its size: at a gigabit a
# second a step is as long as it lingers, at ten it is as large as it gets.
_STEP = 1024 * 1024  # bytes that are worth a step at once
_LINGER = 0.005  # seconds that fewer bytes wait for more
_MOST = 4 * _STEP  # bytes waiting, beyond which the network has to


class Appender:
    """Appends to a partial in a task of its own; `advanced` is called after each step.

    A disk that fails raises OSError at the next `add`, or at the end.
    """

    def __init__(self, store: Store, partial: Partial, advanced: Callable[[], None]) -> None:
        self._store = store
        self._partial = partial
        self._advanced = advanced
        self._waiting: list[bytes] = []
        self._size = 0
        self._ending = False
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what is waiting, whatever has happened: it was paid for."""
        self._ending = True
        self._some.set()
        self._enough.set()
        if self._task is not None:
            await self._task

    async def add(self, data: bytes) -> None:
        """Take bytes in; waits only where the disk has fallen far behind. Raises OSError."""
        self._waiting.append(data)
        self._size += len(data)
        self._some.set()
        if self._size >= _STEP:
            self._enough.set()
        self._raise_failure()
        if self._size >= _MOST:
            self._room.clear()
            await self._room.wait()
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self._task is not None and self._task.done():
            self._task.result()

    async def _run(self) -> None:
        try:
            await self._write()
        finally:
            self._room.set()

    async def _write(self) -> None:
        """Write until the end; the first bytes at once, so that followers have some early."""
        linger = 0.0
        while not self._ending or self._waiting:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), linger)
            linger = _LINGER
            pieces, self._waiting, self._size = self._waiting, [], 0
            self._some.clear()
            self._enough.clear()
            await self._store.run(self._partial.append, pieces)
            self._room.set()
            self._advanced()
