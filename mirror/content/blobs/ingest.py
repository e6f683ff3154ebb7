"""Ingest: incoming bytes, hashed at once, written at the disk's pace, readable meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from mirror.storage.blobs.protocol import PartialBlob
from mirror.util.notifier import Notifier

# Each step of any size costs a hop to a thread: at a gigabit a second a step is as long
# as it lingers, at ten it is as large as it gets.
_STEP = 1024 * 1024  # bytes that are worth a step at once
_LINGER = 0.005  # seconds that fewer bytes wait for more
_MOST = 8 * _STEP  # bytes waiting for the disk, beyond which the network waits


class Ingest:
    """Takes the bytes of a partial that follow those it has.

    Hash and disk go each at their own pace, so that a client waits for neither: bytes that the
    digest proves can be sent while the disk is still busy. `received` is where the bytes end, in
    the blob. A disk that fails raises StorageError from the next `keep_up`, or at the end; bytes
    that it did not take stay readable.
    """

    def __init__(self, partial: PartialBlob) -> None:
        self.received = partial.written
        self._partial = partial
        self._hashing = _Stage(partial.hash)
        self._writing = _Stage(partial.append)
        self._stages = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stages.enter_async_context(self._hashing)
        await self._stages.enter_async_context(self._writing)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hash and write the waiting bytes, after an error too: they were paid for."""
        await self._stages.aclose()

    def add(self, data: bytes) -> None:
        """Take in received bytes."""
        self._hashing.add(data)
        self._writing.add(data)
        self.received += len(data)

    async def keep_up(self) -> None:
        """Wait if hash or disk are far behind; raises StorageError if the disk failed."""
        await self._hashing.behind(_MOST)
        await self._writing.behind(_MOST)

    async def proven(self) -> bool:
        """Whether all received bytes match the digest."""
        await self._hashing.behind(0)
        return self._partial.proven

    def held(self, position: int) -> memoryview | None:
        """Return bytes from `position` on that are not written yet; None if they are."""
        start = self.received - self._writing.size
        if not start <= position < self.received:
            return None
        for piece in self._writing.pieces:
            if position < start + len(piece):
                return memoryview(piece)[position - start :]
            start += len(piece)
        return None


class _Stage:
    """Processes pieces in their order, many in a step, in a separate task.

    After an error of the work its pieces stay, and each waiting caller gets the error.
    """

    def __init__(self, work: Callable[[list[bytes]], Awaitable[None]]) -> None:
        self.pieces: list[bytes] = []
        self.size = 0  # bytes of the pieces
        self._work = work
        self._ending = False
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._advanced = Notifier()
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
        self._ending = True
        self._some.set()
        self._enough.set()
        if self._task is not None:
            await self._task

    def add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.size += len(piece)
        self._some.set()
        if self.size >= _STEP:
            self._enough.set()

    async def behind(self, most: int) -> None:
        """Wait until at most `most` bytes are left; raises the error of the work."""
        while True:
            if self._task is not None and self._task.done():
                self._task.result()
            if self.size <= most:
                return
            self._enough.set()
            await self._advanced.changed()

    async def _run(self) -> None:
        try:
            while not self._ending or self.pieces:
                await self._step()
        finally:
            self._advanced.notify()

    async def _step(self) -> None:
        await self._some.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                await self._enough.wait()
        pieces = self.pieces.copy()
        self._some.clear()
        self._enough.clear()
        await self._work(pieces)
        del self.pieces[: len(pieces)]
        self.size -= sum(len(piece) for piece in pieces)
        self._advanced.notify()
