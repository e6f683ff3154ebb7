"""SQLite through aiosqlite: one connection, one writer, migrations by number."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self, cast

import aiosqlite

from mirror.storage.errors import StoreError
from mirror.util.uncancelled import run_to_completion

_log = logging.getLogger(__name__)

Row = Sequence[Any]
Write = tuple[str, tuple[object, ...]]

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
)
# A full disk has no room for the file that connections share; a single exclusive one needs none.
_ALONE = ("PRAGMA locking_mode=EXCLUSIVE", *_PRAGMAS)

_AGAIN = 0.05  # seconds
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ")


class Database:
    """A database file. Statements take `$1`, `$2`, …, as in PostgreSQL."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        self._file = _identity(path)
        self.closed = False
        self.alone = False  # locked exclusively, with lock table and log in memory

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open and migrate; raises StoreError for a newer schema, sqlite3.Error otherwise."""
        alone = False
        try:
            connection = await _connect(path, _PRAGMAS)
        except sqlite3.OperationalError as error:
            if not is_failure_of_disk(error):
                raise
            alone = True
            connection = await _connect(path, _ALONE)
        try:
            database = cls(connection, path)
            database.alone = alone
            await database._migrate(path)
        except BaseException:
            await _break_off(connection)
            raise
        return database

    async def close(self) -> None:
        """Close; an open connection would keep the process alive."""
        self.closed = True
        await self._connection.close()

    async def break_off(self) -> None:
        """Close at once: a running statement is rolled back, and waiting ones raise an error."""
        self.closed = True
        await _break_off(self._connection)

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        """Return all rows of a query."""
        rows = await self._connection.execute_fetchall(sql, _bound(args))
        return list(rows)

    async def write(self, writes: Iterable[Write]) -> None:
        """Execute all of `writes` in order, or none of them, even if the caller is cancelled.

        In one step of the thread: with a step per statement, most of the time went into the
        hand-over (measured: 2.7 s of CPU to forget 20,000 files that are gone, now 1.0).
        """
        run = cast("Callable[..., Awaitable[None]]", self._connection._execute)
        await run(_carry_out, self._connection._conn, list(writes))

    async def damage(self) -> sqlite3.Error | None:
        """Read the whole database, in some tenths of a second; returns its damage, None if sound.

        Closes it and raises sqlite3.Error if it cannot be read for now; closes it on cancellation,
        too.
        """
        try:
            rows = await self.fetch("PRAGMA quick_check(1)")
        except BaseException as error:
            if isinstance(error, sqlite3.Error) and is_damage(error):
                return error
            await self.break_off()
            raise
        verdict = str(rows[0][0])
        return None if verdict == "ok" else sqlite3.DatabaseError(verdict)

    async def vanished(self) -> bool:
        """Whether the open file was deleted or replaced."""
        return await asyncio.to_thread(_identity, self.path) != self._file

    async def rewrite(self) -> None:
        """Write the contents to a new file in place of the deleted one.

        Raises sqlite3.Error, OSError.
        """
        fresh = self.path.with_suffix(".fresh")
        await asyncio.to_thread(fresh.unlink, missing_ok=True)
        await self._connection.execute_fetchall("VACUUM INTO ?", (str(fresh),))
        # Closed before the new one is opened: closing removes the log, which has the same name.
        await self.close()
        for suffix in ("-wal", "-shm"):
            await asyncio.to_thread(_log_of(self.path, suffix).unlink, missing_ok=True)
        await asyncio.to_thread(fresh.rename, self.path)
        self._connection = await _connect(self.path, _PRAGMAS)
        self._file = _identity(self.path)
        self.closed = False

    async def _migrate(self, path: Path) -> None:
        rows = await self.fetch("PRAGMA user_version")
        version = int(rows[0][0])
        scripts = _scripts()
        if version > len(scripts):
            raise StoreError(
                f"{path} was written by a newer version (schema {version}, this one reads up to "
                f"{len(scripts)}): upgrade, or move the file away to have it rebuilt"
            )
        if 0 < version < len(scripts):
            _log.info("migrating %s from schema %d to %d", path, version, len(scripts))
        for number, script in enumerate(scripts[version:], version + 1):
            text = f"BEGIN; {script}; PRAGMA user_version={number}; COMMIT;"
            await self._connection.executescript(text)


async def _connect(path: Path, pragmas: Iterable[str]) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(path, isolation_level=None)
    try:
        for pragma in pragmas:
            await connection.execute_fetchall(pragma)
    except BaseException:
        await _break_off(connection)
        raise
    return connection


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


def _log_of(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


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


def _scripts() -> list[str]:
    folder = resources.files("mirror.storage") / "schema"
    files = [file for file in folder.iterdir() if re.fullmatch(r"\d{4}\.sql", file.name)]
    return [file.read_text("utf-8") for file in sorted(files, key=lambda file: file.name)]


def move_aside(path: Path) -> Path:
    """Rename a damaged database, and remove its log; returns its new name. Raises OSError."""
    for older in path.parent.glob(f"{path.stem}.damaged-*"):
        older.unlink(missing_ok=True)  # one is enough for inspection, and each takes room
    aside = path.with_suffix(f".damaged-{int(time.time())}")
    with contextlib.suppress(FileNotFoundError):  # already gone
        path.rename(aside)
    for suffix in ("-wal", "-shm"):
        _log_of(path, suffix).unlink(missing_ok=True)
    return aside


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error means that the file is not a sound database: not busy, full or closed.

    Decided by the name of the result code (sqlite.org/rescode.html); a short read means a cut file.
    """
    return getattr(error, "sqlite_errorname", "").startswith(_DAMAGE)


def is_failure_of_disk(error: Exception) -> bool:
    """Whether an error means that the file could not be read or written, but not a full disk."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN"))
