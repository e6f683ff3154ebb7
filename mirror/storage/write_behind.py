"""The write-behind queue of the index: pending writes, and their way into the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from itertools import chain, islice
from typing import TypeAlias

from mirror.oci.errors import shown
from mirror.storage import statements as sql
from mirror.storage.errors import StoreError, in_words
from mirror.storage.sqlite import (
    Database,
    Row,
    Write,
    is_damage,
    is_failure_of_disk,
    move_aside,
)
from mirror.util.cooperative import cooperatively
from mirror.util.uncancelled import run_to_completion

_log = logging.getLogger(__name__)

_SLICE = 64  # writes per transaction: each may touch a page or two
_PATIENCE = 0.5  # seconds that an answer waits for its row; a slower disk does not delay it
_TABLE = re.compile(r"\b(?:INTO|UPDATE|FROM) (\w+)")  # of a statement
_UNFIT = (UnicodeEncodeError, OverflowError, sqlite3.IntegrityError, sqlite3.DataError)


# A function that queues the rows which may be queued only once, and returns an iterable that queues
# all others as it is consumed.
Source: TypeAlias = Callable[[], Iterable[object]]


class WriteBehind:
    """The database and its pending writes; `sources` rewrite all rows if the database is replaced.

    A write that has begun runs to its end, and the database is closed after it, even if the caller
    is cancelled: no transaction is left open, and no file is closed under one.
    """

    def __init__(self, database: Database, interval: float) -> None:
        self._database = database
        self._interval = interval
        self._pending: dict[tuple[object, ...], Write] = {}
        self._pulls: list[Write] = []
        self._entered = 0  # pulls so far
        self._tried = 0  # pulls that were written, or failed to be for now
        self._progress = asyncio.Condition()
        self.sources: list[Source] = []
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<WriteBehind: {self.pending} writes pending>"

    @property
    def pending(self) -> int:
        """The number of pending writes."""
        return len(self._pending) + len(self._pulls)

    def later(self, key: tuple[object, ...], statement: str, *args: object) -> None:
        """Queue a write; it replaces an older pending write of the same key."""
        self._pending.pop(key, None)  # the newest write comes last
        self._pending[key] = (statement, args)

    def awaits(self, key: tuple[object, ...]) -> bool:
        """Whether a write of this key is pending."""
        return key in self._pending

    def soon(self) -> None:
        """Wake the flush now, instead of after the interval."""
        self._wake.set()

    def add_pull(self, statement: str, *args: object) -> None:
        """Queue a row of the ledger, before all other writes, and wake the flush."""
        self._pulls.append((statement, args))
        self._entered += 1
        self.soon()

    async def pulls_written(self) -> None:
        """Wait until the pulls so far are on the disk, for half a second at most.

        A failed write, such as one while another program locks the index, ends the wait: the pull
        is written later. This method does not flush by itself.
        """
        upto = self._entered
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE), self._progress:
                await self._progress.wait_for(lambda: self._tried >= upto)

    async def fetch(self, statement: str, *args: object) -> list[Row]:
        """Return all rows of a query."""
        return await self._database.fetch(statement, *args)

    async def close(self) -> None:
        """Write all pending rows, after a flush that is running, and close."""
        await run_to_completion(self._close())

    async def _close(self) -> None:
        try:
            await self.flush()
        finally:
            async with self._flushing:
                await self._database.close()

    async def abandon(self) -> None:
        """See `Index.abandon`."""
        await self._database.break_off()

    async def prune(self, now: int, keep: int, words: int) -> None:
        """See `Index.prune`."""
        await run_to_completion(self._prune(now, keep, words))

    async def _prune(self, now: int, keep: int, words: int) -> None:
        async with self._flushing:
            try:
                [[last]] = await self._database.fetch(sql.LAST_ENTRY)
                now = now if last is None else min(now, last)
                writes: list[Write] = [(prune, (now - keep,)) for prune in sql.PRUNE]
                writes += [(prune, (now - words,)) for prune in sql.PRUNE_WORDS]
                await self._database.write(writes)
            except (sqlite3.Error, ValueError) as error:
                _log.error("cannot prune the ledger, will try again: %s", in_words(error))

    async def keep_last(self, accounts: Iterable[tuple[str, str]], most: int) -> None:
        """See `Index.keep_last`."""
        await run_to_completion(self._drop([(sql.KEEP_LAST, (*each, most)) for each in accounts]))

    async def _drop(self, writes: Sequence[Write]) -> None:
        async with self._flushing:
            try:
                await self._database.write(writes)
            except (sqlite3.Error, ValueError) as error:
                _log.error("cannot prune the ledger, will try again: %s", in_words(error))

    async def due(self) -> None:
        """Wait until the next flush is due."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval):
                await self._wake.wait()
        self._wake.clear()

    async def flush(self) -> bool:
        """Write all pending rows; returns whether the database may have grown.

        Rows of a failed write stay pending: requests do not depend on them.
        """
        return await run_to_completion(self._flush())

    async def _flush(self) -> bool:
        async with self._flushing:
            await self._rescue()
            if not self._pending and not self._pulls:
                return False
            while self._pending or self._pulls:
                if not await self._flush_slice():
                    break
            else:
                if self._database.alone:  # opened on a full disk, which accepts writes again
                    await self._reopen()
            return True

    async def _flush_slice(self) -> bool:
        """Write one slice, pulls first; returns whether it succeeded.

        Slices bound the size of the write-ahead log.
        """
        pulls, self._pulls = self._pulls, []
        keys = list(islice(self._pending, _SLICE))
        writes = {key: self._pending.pop(key) for key in keys}
        entered, written = self._entered, 0
        try:
            async for number in self._write([*pulls, *writes.values()]):
                written += number
        except (sqlite3.Error, ValueError) as error:
            _log.error("cannot write to the index, will try again: %s", in_words(error))
            # Written rows are not written again: pulls that were moved would be moved twice.
            rest = islice(writes.items(), max(0, written - len(pulls)), None)
            self._put_back(pulls[written:], dict(rest))
            if _has_lost(error):
                await self._begin_anew(error)
            elif self._database.closed or is_failure_of_disk(error):
                await self._reopen()
            return False
        finally:
            self._tried = entered
            async with self._progress:
                self._progress.notify_all()
        return True

    def _put_back(self, pulls: list[Write], writes: dict[tuple[object, ...], Write]) -> None:
        """Requeue failed writes; a write queued meanwhile is newer, and replaces its failed one."""
        newer, self._pending = self._pending, writes
        for key, write in newer.items():
            self._pending.pop(key, None)
            self._pending[key] = write
        self._pulls = pulls + self._pulls

    async def _write(self, writes: Sequence[Write]) -> AsyncIterator[int]:
        """Write all rows, dropping any that the database rejects: such a row would block the rest.

        Yields the number of rows written or dropped, always the next ones in order.
        """
        try:
            await self._database.write(writes)
        except _UNFIT as error:
            if len(writes) > 1:
                half = len(writes) // 2
                for part in (writes[:half], writes[half:]):
                    async for number in self._write(part):
                        yield number
                return
            _log.error("%s cannot be written to the index: %s", _named(writes[0]), error)
        yield len(writes)

    async def _rescue(self) -> None:
        """Rewrite the database if its file was deleted; the open connection still has it."""
        try:
            if not self._database.closed and await self._database.vanished():
                _log.error("the index %s was deleted: rewriting it", self._database.path)
                await self._database.rewrite()
        except (sqlite3.Error, OSError) as error:
            _log.error("cannot rewrite the index, will try again: %s", in_words(error))

    async def _reopen(self) -> None:
        """Open the file again: a recovered disk may serve a new connection, but not the old one."""
        path = self._database.path
        try:
            await self._database.close()
            if await self._database.vanished():
                await self._begin_anew(FileNotFoundError("deleted"))
            else:
                self._database = await Database.open(path)
        except (sqlite3.Error, OSError, StoreError) as error:
            if _has_lost(error):
                await self._begin_anew(error)
            else:
                _log.error("cannot open the index %s, will try again: %s", path, in_words(error))

    async def _begin_anew(self, error: Exception) -> None:
        """Replace a damaged database by an empty one, and have the sources fill it again.

        Only facts that no source keeps in memory are lost: the names in the ledger's pulls, not
        their count.
        """
        path = self._database.path
        try:
            await self._database.close()
            await asyncio.to_thread(move_aside, path)
            self._database = await Database.open(path)
        except (sqlite3.Error, OSError, ValueError) as failure:
            _log.error("cannot replace the damaged index %s: %s", path, in_words(failure))
            return
        _log.error("the index %s is damaged (%s): moved aside, rewriting it", path, error)
        self._pulls.clear()
        # No await in between: a pull entered meanwhile would be written twice, by its source and by
        # itself.
        rest = [tell() for tell in self.sources]
        async for _ in cooperatively(chain.from_iterable(rest)):
            pass


def _has_lost(error: Exception) -> bool:
    """Whether a database that was sound when opened is damaged now."""
    return isinstance(error, sqlite3.Error) and (
        is_damage(error) or str(error).startswith("no such table")
    )


def _named(write: Write) -> str:
    """Name a row that cannot be written: its table, and its text values."""
    statement, values = write
    table = _TABLE.search(statement)
    words = " ".join(value for value in values if isinstance(value, str))
    return f"the row {shown(words)} of the table {table[1] if table else statement}"
