"""The file of the index: replaced when it is damaged, and opened again when the disk failed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from mirror.oci.errors import shown
from mirror.storage.errors import StoreError, in_words
from mirror.storage.metadata.protocol import MetadataDamaged, MetadataError
from mirror.storage.metadata.sqlite.columns import digest_of
from mirror.storage.metadata.sqlite.database import Database, Write
from mirror.storage.metadata.sqlite.errors import DiskFailed, TableMissing
from mirror.storage.metadata.sqlite.statements import DROP_BLOB, TOUCH
from mirror.util import permissions

_log = logging.getLogger(__name__)
R = TypeVar("R")

_WEIGHTS = {DROP_BLOB: 3, TOUCH: 2}  # half of the pages, measured on 200,000 blobs
_TABLE = re.compile(r"\b(?:INTO|UPDATE|FROM) (\w+)")  # of a statement
_LOST = (MetadataDamaged, TableMissing)  # of a database that was sound when opened


class IndexFile:
    """A database file and the connection to it; a `Writer`.

    A deleted file is written again from the connection that still has it. Every other failure has
    one way out: the connection is closed and the file opened again, after a lost one has been
    replaced by an empty one.
    """

    def __init__(self, path: Path, database: Database) -> None:
        self.path = path
        self._database = database

    def __repr__(self) -> str:
        return f"<IndexFile {self.path}>"

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the file; a damaged one is moved aside and replaced by an empty one.

        Raises StoreError if it was written by a newer version or cannot be opened.
        """
        try:
            await asyncio.to_thread(path.open("ab").close)
            return cls(path, await _sound(path))
        except OSError as error:
            why = permissions.explain_refusal(error, path.parent)
            raise StoreError(f"cannot open the index {path}: {why}") from None
        except MetadataError as error:
            raise StoreError(f"cannot open the index {path}: {error}") from None

    async def start_over(self, error: MetadataDamaged) -> None:
        """Replace a file that turned out to be damaged while it was read at start."""
        await self._database.close()
        try:
            self._database = await _rebuilt(self.path, error)
        except OSError as failure:
            raise MetadataError(in_words(failure)) from failure

    async def fetch(self, make: Callable[..., R], sql: str, *args: object) -> list[R]:
        """Return all rows of a query; see `Database.fetch`."""
        return await self._database.fetch(make, sql, *args)

    async def write(self, writes: Sequence[Write]) -> None:
        """Execute all writes in order, or none; see `Database.write`."""
        await self._database.write(writes)

    def weight(self, write: Write) -> int:
        """Return how many plain writes this one touches as many pages as."""
        return _WEIGHTS.get(write[0], 1)

    def named(self, write: Write) -> str:
        """Name a row that cannot be written: its table, and its text values."""
        statement, values = write
        table = _TABLE.search(statement)
        words = " ".join(_in_words(value) for value in values if isinstance(value, (str, bytes)))
        return f"the row {shown(words)} of the table {table[1] if table else statement}"

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()

    async def abandon(self) -> None:
        """Close the file at once: a running statement is undone."""
        await self._database.break_off()

    # Repair in use

    async def check(self) -> None:
        """Rewrite the file if it was deleted: the open connection still has its contents."""
        try:
            if not self._database.closed and await self._database.vanished():
                _log.error("the index %s was deleted: rewriting it", self.path)
                await self._rewrite()
        except (MetadataError, OSError) as error:
            _log.error("cannot rewrite the index, will try again: %s", in_words(error))

    async def _rewrite(self) -> None:
        fresh = self.path.with_suffix(".fresh")
        await asyncio.to_thread(fresh.unlink, missing_ok=True)
        await self._database.copy_to(fresh)
        # Closed before the new one is opened: closing removes the log, which has the same name.
        await self._database.close()
        await asyncio.to_thread(_remove_log, self.path)
        await asyncio.to_thread(fresh.rename, self.path)
        self._database = await Database.open(self.path)

    async def caught_up(self) -> bool:
        """Open the file again if it was opened on a full disk, which accepts writes now."""
        return await self._reopen() if self._database.alone else False

    async def mend(self, error: MetadataError) -> bool:
        """Replace a lost file, and open it again after a failure of the disk.

        A recovered disk may serve a new connection, but not the old one. Returns whether the file
        is empty now.
        """
        if isinstance(error, _LOST):
            return await self._replace(error)
        if self._database.closed or isinstance(error, DiskFailed):
            return await self._reopen()
        return False

    async def _reopen(self) -> bool:
        try:
            await self._database.close()
            if await self._database.vanished():
                return await self._replace(FileNotFoundError("deleted"))
            self._database = await Database.open(self.path)
        except _LOST as error:
            return await self._replace(error)
        except (MetadataError, OSError, StoreError) as error:
            _log.error("cannot open the index %s, will try again: %s", self.path, in_words(error))
        return False

    async def _replace(self, error: Exception) -> bool:
        try:
            await self._database.close()
            await asyncio.to_thread(_move_aside, self.path)
            self._database = await Database.open(self.path)
        except (MetadataError, OSError) as failure:
            _log.error("cannot replace the damaged index %s: %s", self.path, in_words(failure))
            return False
        _log.error("the index %s is damaged (%s): moved aside, rewriting it", self.path, error)
        return True


async def _sound(path: Path) -> Database:
    """Open a file, and read it whole; a damaged one is replaced. Raises MetadataError, OSError."""
    try:
        database = await Database.open(path)
    except MetadataDamaged as error:
        return await _rebuilt(path, error)
    damage = await database.damage()
    if damage is None:
        return database
    await database.close()
    return await _rebuilt(path, damage)


async def _rebuilt(path: Path, error: MetadataDamaged) -> Database:
    """Move a damaged file aside, and open an empty one in its place."""
    aside = await asyncio.to_thread(_move_aside, path)
    _log.error("the index %s is damaged (%s): moved to %s, rebuilding it", path, error, aside)
    return await Database.open(path)


def _move_aside(path: Path) -> Path:
    """Rename a damaged file, and remove its log; returns its new name. Raises OSError."""
    for older in path.parent.glob(f"{path.stem}.damaged-*"):
        older.unlink(missing_ok=True)  # one is enough for inspection, and each takes room
    aside = path.with_suffix(f".damaged-{int(time.time())}")
    with contextlib.suppress(FileNotFoundError):  # already gone
        path.rename(aside)
    _remove_log(path)
    return aside


def _in_words(value: str | bytes) -> str:
    return value if isinstance(value, str) else digest_of(value)


def _remove_log(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
