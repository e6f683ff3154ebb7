"""The index in SQL: read whole at start, written behind, never asked by a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository
from mirror.store.errors import StoreError
from mirror.store.sqlite import Database, Row, Write, is_damage

_log = logging.getLogger(__name__)

_SLICE = 64  # writes in a transaction: each may touch a page or two

_PUT_BLOB = """INSERT INTO blob (digest, size, media_type, used_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (digest) DO UPDATE SET size = excluded.size, media_type = excluded.media_type,
    used_at = excluded.used_at"""
_TOUCH = "UPDATE blob SET used_at = $2 WHERE digest = $1"
_PUT_CHILD = "INSERT INTO child (manifest, digest) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_PUT_LINK = """INSERT INTO link (digest, upstream, repository) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING"""
_DROP_LINK = "DELETE FROM link WHERE digest = $1 AND upstream = $2 AND repository = $3"
_PUT_TAG = """INSERT INTO tag (upstream, repository, tag, digest, media_type, size, checked_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (upstream, repository, tag) DO UPDATE SET digest = excluded.digest,
    media_type = excluded.media_type, size = excluded.size, checked_at = excluded.checked_at"""
_DROP_TAG = "DELETE FROM tag WHERE upstream = $1 AND repository = $2 AND tag = $3"
_DROP = (
    ("blob", "DELETE FROM blob WHERE digest = $1"),
    ("child", "DELETE FROM child WHERE manifest = $1"),
    ("link", "DELETE FROM link WHERE digest = $1"),
)
_PUT_PULL = """INSERT INTO pull (upstream, account, at, repository, reference, digest, client)
    VALUES ($1, $2, $3, $4, $5, $6, $7)"""
_PUT_LIMIT = """INSERT INTO pull_limit
    (upstream, account, allowed, remaining, window_length, source, at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (upstream, account) DO UPDATE SET allowed = excluded.allowed,
    remaining = excluded.remaining, window_length = excluded.window_length,
    source = excluded.source, at = excluded.at"""


@dataclass(frozen=True, slots=True)
class PullRow:
    """One counted request. `at` in seconds since the epoch."""

    upstream: str
    account: str
    at: int
    repository: str
    reference: str
    digest: str
    client: str


@dataclass(frozen=True, slots=True)
class LimitRow:
    """What upstream said last of its limit: pulls per `window` seconds, and when it said so."""

    upstream: str
    account: str
    allowed: int
    remaining: int
    window: int
    source: str
    at: int


class Index:
    """The database and what is still to be written to it.

    Writes coalesce by what they are about and reach the disk every `interval` seconds; a crash
    loses at most these, and the start repairs what that left behind. A pull is written at once.
    """

    def __init__(self, database: Database, interval: float = 1.0) -> None:
        self._database = database
        self._interval = interval
        self._pending: dict[tuple[object, ...], Write] = {}
        self._pulls: list[Write] = []
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Index: {len(self._pending) + len(self._pulls)} writes pending>"

    async def close(self) -> None:
        """Write what is pending and close."""
        await self.flush()
        await self._database.close()

    # What is kept

    def put_blob(self, digest: Digest, size: int, media_type: str | None, used_at: int) -> None:
        """Note a kept blob or manifest."""
        self._later(("blob", digest), _PUT_BLOB, str(digest), size, media_type, used_at)

    def put_children(self, digest: Digest, children: Iterable[Digest]) -> None:
        """Note what a kept manifest points at."""
        for child in children:
            self._later(("child", digest, child), _PUT_CHILD, str(digest), str(child))

    def put_link(self, digest: Digest, repository: Repository) -> None:
        """Note that a repository holds a digest."""
        args = (str(digest), repository.upstream, repository.name)
        self._later(("link", *args), _PUT_LINK, *args)

    def drop_link(self, digest: Digest, repository: Repository) -> None:
        """Forget that a repository holds a digest."""
        args = (str(digest), repository.upstream, repository.name)
        self._later(("link", *args), _DROP_LINK, *args)

    def touch(self, digest: Digest, used_at: int) -> None:
        """Note a use. A blob that is still to be written keeps its own time: it is as recent."""
        if ("blob", digest) not in self._pending:
            self._later(("touch", digest), _TOUCH, str(digest), used_at)

    def drop(self, digest: Digest) -> None:
        """Forget a digest with its links and children."""
        for table, sql in _DROP:
            self._later((table, digest), sql, str(digest))

    def put_tag(self, repository: Repository, tag: str, found: Descriptor, at: int) -> None:
        """Note what a tag pointed at when it was checked."""
        key = (repository.upstream, repository.name, str(tag))
        args = (*key, str(found.digest), found.media_type, found.size, at)
        self._later(("tag", *key), _PUT_TAG, *args)

    def drop_tag(self, repository: Repository, tag: str) -> None:
        """Forget a tag."""
        key = (repository.upstream, repository.name, str(tag))
        self._later(("tag", *key), _DROP_TAG, *key)

    # The ledger

    def add_pull(self, pull: PullRow) -> None:
        """Enter a counted request; written at once, because it is money."""
        args = (pull.upstream, pull.account, pull.at, pull.repository, pull.reference)
        self._pulls.append((_PUT_PULL, (*args, pull.digest, pull.client)))
        self._wake.set()

    def put_limit(self, row: LimitRow) -> None:
        """Note what upstream said of its limit."""
        args = (row.upstream, row.account, row.allowed, row.remaining, row.window)
        key = ("limit", row.upstream, row.account)
        self._later(key, _PUT_LIMIT, *args, row.source, row.at)

    async def prune_pulls(self, before: int) -> None:
        """Forget pulls older than `before`, in seconds since the epoch."""
        async with self._flushing:
            try:
                await self._database.write([("DELETE FROM pull WHERE at < $1", (before,))])
            except sqlite3.Error as error:
                _log.error("cannot prune the ledger, will try again: %s", error)

    # Reading, at start

    async def blobs(self) -> list[Row]:
        """Return (digest, size, media type, used at), least recently used first."""
        return await self._database.fetch(
            "SELECT digest, size, media_type, used_at FROM blob ORDER BY used_at"
        )

    async def children(self) -> list[Row]:
        """Return (manifest, digest), by manifest."""
        return await self._database.fetch("SELECT manifest, digest FROM child ORDER BY manifest")

    async def links(self) -> list[Row]:
        """Return (digest, upstream, repository)."""
        return await self._database.fetch("SELECT digest, upstream, repository FROM link")

    async def tags(self) -> list[Row]:
        """Return (upstream, repository, tag, digest, media type, size, checked at) by age."""
        return await self._database.fetch(
            "SELECT upstream, repository, tag, digest, media_type, size, checked_at FROM tag "
            "ORDER BY checked_at"
        )

    async def limits(self) -> list[Row]:
        """Return (upstream, account, allowed, remaining, window, source, at)."""
        return await self._database.fetch(
            "SELECT upstream, account, allowed, remaining, window_length, source, at "
            "FROM pull_limit"
        )

    async def pulls(self, since: int) -> list[Row]:
        """Return (upstream, account, at) of the pulls since then, oldest first."""
        return await self._database.fetch(
            "SELECT upstream, account, at FROM pull WHERE at >= $1 ORDER BY at", since
        )

    # Writing behind

    async def due(self) -> None:
        """Wait until it is time to flush."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), self._interval)
        self._wake.clear()

    async def flush(self) -> bool:
        """Write what is pending; tells whether the database may have grown.

        If that fails it stays pending: requests do not depend on it.
        """
        async with self._flushing:
            if not self._pending and not self._pulls:
                return False
            while self._pending or self._pulls:
                if not await self._flush_slice():
                    break
            return True

    async def _flush_slice(self) -> bool:
        """Write so much that the log stays within its bound, pulls first; tells whether it went."""
        pulls, self._pulls = self._pulls, []
        keys = list(islice(self._pending, _SLICE))
        writes = {key: self._pending.pop(key) for key in keys}
        try:
            await self._database.write([*pulls, *writes.values()])
        except (sqlite3.Error, ValueError) as error:
            _log.error("cannot write to the index, will try again: %s", error)
            # What came meanwhile is newer: it stays behind, and in the place of, what failed.
            newer, self._pending = self._pending, writes
            for key, write in newer.items():
                self._pending.pop(key, None)
                self._pending[key] = write
            self._pulls = pulls + self._pulls
            return False
        return True

    def _later(self, key: tuple[object, ...], sql: str, *args: object) -> None:
        self._pending.pop(key, None)  # the newest write comes last
        self._pending[key] = (sql, args)


async def open_index(path: Path) -> Index:
    """Open the index at `path`; one that is damaged is moved aside, to be built anew.

    Raises StoreError where it was written by a newer version or cannot be opened at all.
    """
    try:
        await asyncio.to_thread(path.open("ab").close)
        return Index(await Database.open(path))
    except OSError as error:
        raise StoreError(f"cannot open the index {path}: {error.strerror}") from None
    except sqlite3.Error as error:
        if not is_damage(error):
            raise StoreError(f"cannot open the index {path}: {error}") from None
        return await replace_index(path, error)


async def replace_index(path: Path, error: sqlite3.Error) -> Index:
    """Move a damaged index aside and open an empty one in its place."""
    aside = await asyncio.to_thread(_move_aside, path)
    _log.error("the index %s is damaged (%s): moved to %s, building anew", path, error, aside)
    return Index(await Database.open(path))


def _move_aside(path: Path) -> Path:
    aside = path.with_suffix(f".damaged-{int(time.time())}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside
