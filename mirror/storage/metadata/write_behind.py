"""The write-behind queue: pending writes, and their way to a writer. Knows no database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from itertools import chain, islice
from typing import Generic, Protocol, TypeVar

from mirror.storage.errors import in_words
from mirror.storage.metadata.protocol import MetadataError, RowRefused, Source
from mirror.util.cooperative import cooperatively
from mirror.util.notifier import Notifier
from mirror.util.uncancelled import run_to_completion

_log = logging.getLogger(__name__)

_SLICE = 64  # plain writes per transaction: each may touch a page or two
_AGAIN, _LAST = 0.5, 4.0  # seconds between two attempts of a stop, and until the last one
_PATIENCE = 0.5  # seconds that an answer waits for its row; a slower disk does not delay it

W = TypeVar("W")
W_contra = TypeVar("W_contra", contravariant=True)


class Writer(Protocol[W_contra]):
    """Takes the writes of a queue to where the rows are kept, and repairs that place."""

    async def check(self) -> None:
        """Repair, before a flush, a fault that costs no row. Raises nothing."""

    async def write(self, writes: Sequence[W_contra]) -> None:
        """Carry out all writes in order, or none. Raises RowRefused, MetadataError."""

    async def mend(self, error: MetadataError) -> bool:
        """Recover from a failed write; returns whether all rows were lost. Raises nothing."""

    async def caught_up(self) -> bool:
        """Use that all writes succeeded; returns whether all rows were lost. Raises nothing."""

    def weight(self, write: W_contra) -> int:
        """Return how many plain writes this one takes as much room in a log as."""

    def named(self, write: W_contra) -> str:
        """Name the row of a write, for a log line."""

    async def close(self) -> None:
        """Close after the last write."""

    async def abandon(self) -> None:
        """Close at once: a running write is undone."""


class WriteBehind(Generic[W]):
    """The pending writes of a writer; the sources repeat all rows if the writer loses them.

    A write that has begun runs to its end, and the writer is closed after it, even if the caller is
    cancelled: no transaction is left open, and no file is closed under one.
    """

    def __init__(self, writer: Writer[W], interval: float) -> None:
        self._writer = writer
        self._interval = interval
        self._pending: dict[Hashable, W] = {}
        self._spare: dict[Hashable, W] = {}  # after all others: a start finds these out again
        self._end: float | None = None  # of writing, by the monotonic clock
        self._entries: dict[Hashable, W] = {}  # of the ledger, in their order
        self._entered = 0  # entries so far
        self._tried = 0  # entries that were written, or failed to be for now
        self._progress = Notifier()
        self._sources: list[Source] = []
        self._told = 0  # times that the sources repeated all rows
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<WriteBehind: {self.pending} writes pending>"

    @property
    def pending(self) -> int:
        """The number of pending writes."""
        return len(self._pending) + len(self._spare) + len(self._entries)

    def when_lost(self, source: Source) -> None:
        """See `MetadataStore.when_lost`."""
        self._sources.append(source)

    def later(self, key: Hashable, write: W) -> None:
        """Queue a write; it replaces an older pending write of the same key."""
        self.cancel(key)  # the newest write comes last
        self._pending[key] = write

    def later_still(self, key: Hashable, write: W) -> None:
        """Queue a write behind all those of `later`. A stop may drop it.

        The next start has to find out the contents again. It replaces an older pending write of the
        same key.
        """
        self.cancel(key)
        self._spare[key] = write

    def hasten(self, key: Hashable) -> None:
        """Move a write of `later_still`, if it is pending, to those of `later`."""
        if (write := self._spare.pop(key, None)) is not None:
            self._pending[key] = write

    def cancel(self, key: Hashable) -> None:
        """Drop a pending write of this key, if there is one."""
        self._pending.pop(key, None)
        self._spare.pop(key, None)

    def awaits(self, key: Hashable) -> bool:
        """Whether a write of this key is pending."""
        return key in self._pending or key in self._spare

    def soon(self) -> None:
        """Wake the flush now, instead of after the interval."""
        self._wake.set()

    def add_entry(self, write: W) -> None:
        """Queue an entry of the ledger, before all other writes, and wake the flush."""
        self._entered += 1
        self._entries[self._entered] = write
        self.soon()

    def after_entries(self, key: Hashable, write: W) -> None:
        """Queue a write behind the entries so far; it replaces a pending one of the same key."""
        self._entries.pop(key, None)
        self._entries[key] = write

    def forget(self) -> None:
        """Drop all pending writes."""
        self._pending.clear()
        self._spare.clear()
        self._entries.clear()

    def hurry(self, seconds: float) -> None:
        """End all writing in so many seconds, except that of the ledger's entries.

        Until then, a failed write is repeated by `close`.
        """
        self._end = time.monotonic() + seconds

    @property
    def _over(self) -> bool:
        return self._end is not None and time.monotonic() > self._end

    async def pulls_written(self) -> None:
        """Wait until the pulls so far are on the disk, for half a second at most.

        A failed write, such as one while another program locks the index, ends the wait: the pull
        is written later. This method does not flush by itself.
        """
        upto = self._entered
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while self._tried < upto:
                    await self._progress.changed()

    async def due(self) -> None:
        """Wait until the next flush is due."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval):
                await self._wake.wait()
        self._wake.clear()

    async def close(self) -> None:
        """Write all pending rows, after a flush that is running, and close."""
        await run_to_completion(self._close())

    async def abandon(self) -> None:
        """Close at once, dropping pending rows."""
        await self._writer.abandon()

    async def _close(self) -> None:
        told = self._told
        try:
            await self.flush()
            if self._told > told:  # all rows were lost in that flush, and are pending again
                await self.flush()
            end = time.monotonic() + _LAST if self._end is None else self._end
            while (self._entries or self._pending) and time.monotonic() < end:
                await asyncio.sleep(_AGAIN)  # for another program's lock, or room on the disk
                await self.flush()
            if self.pending:
                _log.warning(
                    "%d rows of the index are not written: a start repeats them", self.pending
                )
        finally:
            async with self._flushing:
                await self._writer.close()

    async def between_flushes(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run other work of the writer while no flush runs, even if the caller is cancelled."""
        await run_to_completion(self._between_flushes(work))

    async def _between_flushes(self, work: Callable[[], Awaitable[None]]) -> None:
        async with self._flushing:
            await work()

    async def flush(self) -> bool:
        """Write all pending rows; returns whether the disk may have less room now.

        Rows of a failed write stay pending: requests do not depend on them.
        """
        return await run_to_completion(self._flush())

    async def _flush(self) -> bool:
        async with self._flushing:
            await self._writer.check()
            if not self.pending:
                return False
            while self._entries or (self.pending and not self._over):
                if not await self._flush_slice():
                    break
            else:
                if not self._over and await self._writer.caught_up():
                    await self._tell_again()
            return True

    async def _flush_slice(self) -> bool:
        """Write one slice, entries first; returns whether it succeeded.

        Slices bound the size of a write-ahead log.
        """
        entries, self._entries = self._entries, {}
        writes = {} if self._over else self._next_writes()
        entered, written = self._entered, 0
        try:
            async for number in self._write([*entries.values(), *writes.values()]):
                written += number
        except MetadataError as error:
            _log.error("cannot write to the index, will try again: %s", in_words(error))
            # Written rows are not written again: pulls that were moved would be moved twice.
            failed = islice(writes.items(), max(0, written - len(entries)), None)
            # Before all newer ones, spare or not: a repeated deletion must not follow its new row.
            self._pending = _merged(dict(failed), self._pending)
            self._entries = _merged(dict(islice(entries.items(), written, None)), self._entries)
            if await self._writer.mend(error):
                await self._tell_again()
            return False
        finally:
            self._tried = entered
            self._progress.notify()
        return True

    def _next_writes(self) -> dict[Hashable, W]:
        """Take as many writes out of the queue as fit into a slice."""
        queue, room = self._pending or self._spare, _SLICE
        keys = list[Hashable]()
        for key, write in queue.items():
            room -= self._writer.weight(write)
            if room < 0 and keys:
                break
            keys.append(key)
        return {key: queue.pop(key) for key in keys}

    async def _write(self, writes: Sequence[W]) -> AsyncIterator[int]:
        """Write all rows, dropping any that the writer refuses: such a row would block the rest.

        Yields the number of rows written or dropped, always the next ones in order.
        """
        try:
            await self._writer.write(writes)
        except RowRefused as error:
            if len(writes) > 1:
                half = len(writes) // 2
                for part in (writes[:half], writes[half:]):
                    async for number in self._write(part):
                        yield number
                return
            name = self._writer.named(writes[0])
            _log.error("%s cannot be written to the index: %s", name, error)
        yield len(writes)

    async def _tell_again(self) -> None:
        """Have the sources queue all rows again.

        Only facts that no source keeps in memory are lost: the names in the ledger's pulls, not
        their count.
        """
        self._entries.clear()
        self._told += 1
        # No await in between: a pull entered meanwhile would be written twice, by its source and by
        # itself.
        rest = [tell() for tell in self._sources]
        async for _ in cooperatively(chain.from_iterable(rest)):
            if self._over:
                break


def _merged(failed: dict[Hashable, W], newer: dict[Hashable, W]) -> dict[Hashable, W]:
    """Put newer writes behind failed ones; a newer write replaces the failed one of its key."""
    for key, write in newer.items():
        failed.pop(key, None)
        failed[key] = write
    return failed
