"""SQLite through aiosqlite: one connection to a file that writes, and one for queries."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar, cast
from urllib.parse import quote

import aiosqlite

from mirror.storage.metadata.protocol import MetadataDamaged, MetadataError
from mirror.storage.metadata.sqlite.errors import DiskFailed, translated
from mirror.storage.metadata.sqlite.migrations import migrate
from mirror.util.uncancelled import run_to_completion

R = TypeVar("R")
Write: TypeAlias = tuple[str, tuple[object, ...]]

WAL_BYTES = 640 * 1024  # bytes; 64 pages, and one more transaction

# mmap stays off and one connection does all writing: SQLite up to 3.51.2 can corrupt a WAL
# database otherwise (sqlite.org/wal.html#walresetbug).
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # a committed row survives a power cut: pulls are money
    "PRAGMA busy_timeout=5000",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-4000",
    "PRAGMA wal_autocheckpoint=64",
    f"PRAGMA journal_size_limit={WAL_BYTES}",
    "PRAGMA mmap_size=0",
    "PRAGMA foreign_keys=ON",  # links and children leave with their blob
)
# For queries alone: the other connection moves the log into the file.
_READING = ("PRAGMA query_only=1", "PRAGMA cache_size=-8000", "PRAGMA busy_timeout=5000",
    "PRAGMA mmap_size=0")  # fmt: skip
# Once open, failed writes are repeated: no flush or stop waits long for another program's lock.
_OPEN = ("PRAGMA busy_timeout=500",)
# A full disk has no room for the file that connections share; a single exclusive one needs none.
_ALONE = ("PRAGMA locking_mode=EXCLUSIVE", *_PRAGMAS)

_AGAIN = 0.05  # seconds


class Database:
    """A database file. Statements take `$1`, `$2`, …, as in PostgreSQL.

    All methods raise MetadataError. `alone` means that the file is locked exclusively, with lock
    table and log in memory.

    Queries have a separate connection and thread, if the file can be shared. The log is not
    emptied before the end of a query.
    """

    def __init__(
        self,
        connection: aiosqlite.Connection,
        reader: aiosqlite.Connection | None,
        path: Path,
        *,
        alone: bool,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._path = path
        self._file = _identity(path)
        self.alone = alone
        self.closed = False

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open and migrate; raises StoreError for a newer schema."""
        alone = False
        try:
            connection = await _connect(path, _PRAGMAS)
        except DiskFailed:
            alone = True
            connection = await _connect(path, _ALONE)
        try:
            with translated():
                await migrate(connection, path)
                await _set(connection, _OPEN)
            reader = None if alone else await _read_only(path)
            return cls(connection, reader, path, alone=alone)
        except BaseException:
            await _break_off(connection)
            raise

    async def close(self) -> None:
        """Close; an open connection would keep the process alive."""
        self.closed = True
        with translated():
            try:
                await self._stop_reading()  # first: the last one to leave removes the log
            finally:
                await self._connection.close()

    async def _stop_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    async def break_off(self) -> None:
        """Close at once: a running statement is rolled back, and waiting ones raise an error."""
        self.closed = True
        reader, self._reader = self._reader, None
        if reader is not None:
            await _break_off(reader)
        await _break_off(self._connection)

    async def fetch(self, make: Callable[..., R], sql: str, *args: object) -> list[R]:
        """Return all rows of a query, each made of its columns, on a thread of the database."""
        if self._reader is not None:
            with contextlib.suppress(DiskFailed):
                return await _fetch(self._reader, make, sql, args)
            await self._stop_reading()  # a recovered disk may serve a new connection, but not it
        return await _fetch(self._connection, make, sql, args)

    async def write(self, writes: Iterable[Write]) -> None:
        """Execute all of `writes` in order, or none of them, even if the caller is cancelled.

        In one step of the thread: with a step per statement, most of the time went into the
        hand-over (measured: 2.7 s of CPU to forget 20,000 files that are gone, now 1.0).
        """
        with translated():
            run = cast("Callable[..., Awaitable[None]]", self._connection._execute)
            await run(_carry_out, self._connection._conn, list(writes))

    async def damage(self) -> MetadataDamaged | None:
        """Read the whole database, in some tenths of a second; returns its damage, None if sound.

        Closes it if it cannot be read for now, and on cancellation, too.
        """
        try:
            [verdict] = await self.fetch(str, "PRAGMA quick_check(1)")
        except MetadataDamaged as error:
            return error
        except BaseException:
            await self.break_off()
            raise
        return None if verdict == "ok" else MetadataDamaged(verdict)

    async def vanished(self) -> bool:
        """Whether the open file was deleted or replaced. Raises OSError."""
        return await asyncio.to_thread(_identity, self._path) != self._file

    async def copy_to(self, path: Path) -> None:
        """Write the contents to a new file, although the open one was deleted."""
        with translated():
            await self._connection.execute_fetchall("VACUUM INTO ?", (str(path),))


async def _connect(
    path: Path | str, pragmas: Iterable[str], *, uri: bool = False
) -> aiosqlite.Connection:
    with translated():
        connection = await aiosqlite.connect(path, isolation_level=None, uri=uri)
        try:
            await _set(connection, pragmas)
        except BaseException:
            await _break_off(connection)
            raise
        return connection


async def _set(connection: aiosqlite.Connection, pragmas: Iterable[str]) -> None:
    for pragma in pragmas:
        await connection.execute_fetchall(pragma)


async def _read_only(path: Path) -> aiosqlite.Connection | None:
    """Open a second connection for queries; None if the disk fails, and the first has to do."""
    try:
        return await _connect(f"file:{quote(str(path))}?mode=ro", _READING, uri=True)
    except MetadataError:
        return None


async def _fetch(
    connection: aiosqlite.Connection, make: Callable[..., R], sql: str, args: Sequence[object]
) -> list[R]:
    with translated():
        run = cast("Callable[..., Awaitable[list[R]]]", connection._execute)
        return await run(_fetched, connection._conn, make, sql, _bound(args))


async def _break_off(connection: aiosqlite.Connection) -> None:
    """Close a connection, interrupting its running statement, even if the caller is cancelled."""

    async def close() -> None:
        closing = asyncio.create_task(connection.close())
        while not closing.done():
            with contextlib.suppress(sqlite3.ProgrammingError, ValueError):  # closed meanwhile
                await connection.interrupt()
            # Nothing to interrupt between two statements: try again.
            await asyncio.wait([closing], timeout=_AGAIN)
        closing.result()

    await run_to_completion(close())


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _fetched(
    connection: sqlite3.Connection, make: Callable[..., R], sql: str, args: dict[str, Any]
) -> list[R]:
    return [make(*row) for row in connection.execute(sql, args)]


def _carry_out(connection: sqlite3.Connection, writes: Iterable[Write]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, batch in _batches(writes):
            connection.executemany(sql, batch)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a failure may have rolled back already
            connection.execute("ROLLBACK")
        raise


def _bound(args: Sequence[object]) -> dict[str, object]:
    return {str(number): value for number, value in enumerate(args, 1)}


def _batches(writes: Iterable[Write]) -> Iterable[tuple[str, list[dict[str, object]]]]:
    """Group adjacent writes of the same statement, so that each group is one call."""
    sql, batch = "", list[dict[str, object]]()
    for statement, args in writes:
        if statement != sql and batch:
            yield sql, batch
            batch = []
        sql = statement
        batch.append(_bound(args))
    if batch:
        yield sql, batch
