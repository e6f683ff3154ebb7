"""The index in SQL: read whole at start, written behind, never asked by a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterable
from itertools import islice

from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository
from mirror.store import statements as sql
from mirror.store.errors import StoreError
from mirror.store.rows import GateRow, LimitRow, PullRow, SpenderRow
from mirror.store.sqlite import Database, Row, Write, is_damage, is_failure_of_disk, move_aside

_log = logging.getLogger(__name__)

_SLICE = 64  # writes in a transaction: each may touch a page or two


class Index:
    """The database and what is still to be written to it.

    Writes coalesce by what they are about and reach the disk every `interval` seconds; a crash
    loses at most these, and the start repairs what that left behind. Written at once are a pull,
    and that a repository holds a digest: without it, upstream would be asked for that again.

    `sources` are asked to tell all they know where the database turns out to be damaged while it
    is in use, and an empty one takes its place.
    """

    def __init__(self, database: Database, interval: float = 1.0) -> None:
        self._database = database
        self._interval = interval
        self._pending: dict[tuple[object, ...], Write] = {}
        self._pulls: list[Write] = []
        self.sources: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Index: {len(self._pending) + len(self._pulls)} writes pending>"

    async def close(self) -> None:
        """Write what is pending and close."""
        try:
            await self.flush()
        finally:
            await self._database.close()

    # What is kept

    def put_blob(
        self,
        digest: Digest,
        size: int,
        media_type: str | None,
        used_at: int,
        changed_at: int | None = None,
    ) -> None:
        """Note a kept blob or manifest; see `Entry` for the units."""
        args = (str(digest), size, media_type, used_at, changed_at)
        self._later(("blob", digest), sql.PUT_BLOB, *args)

    def put_children(self, digest: Digest, children: Iterable[Digest]) -> None:
        """Note what a kept manifest points at."""
        for child in children:
            self._later(("child", digest, child), sql.PUT_CHILD, str(digest), str(child))

    def put_type(self, digest: Digest, upstream: str, media_type: str) -> None:
        """Note what an upstream calls a kept manifest."""
        args = (str(digest), upstream, media_type)
        self._later(("type", *args[:2]), sql.PUT_TYPE, *args)

    def put_link(self, digest: Digest, repository: Repository) -> None:
        """Note that a repository holds a digest."""
        args = (str(digest), repository.upstream, repository.name)
        self._later(("link", *args), sql.PUT_LINK, *args)
        self._wake.set()

    def drop_link(self, digest: Digest, repository: Repository) -> None:
        """Forget that a repository holds a digest."""
        args = (str(digest), repository.upstream, repository.name)
        self._later(("link", *args), sql.DROP_LINK, *args)

    def touch(self, digest: Digest, used_at: int) -> None:
        """Note a use. A blob that is still to be written keeps its own time: it is as recent."""
        if ("blob", digest) not in self._pending:
            self._later(("touch", digest), sql.TOUCH, str(digest), used_at)

    def drop(self, digest: Digest) -> None:
        """Forget a digest with its links and children."""
        for table, statement in sql.DROP:
            self._later((table, digest), statement, str(digest))

    def put_tag(self, repository: Repository, tag: str, found: Descriptor, at: int) -> None:
        """Note what a tag pointed at when it was checked."""
        key = (repository.upstream, repository.name, str(tag))
        args = (*key, str(found.digest), found.media_type, found.size, at)
        self._later(("tag", *key), sql.PUT_TAG, *args)

    def drop_tag(self, repository: Repository, tag: str) -> None:
        """Forget a tag."""
        key = (repository.upstream, repository.name, str(tag))
        self._later(("tag", *key), sql.DROP_TAG, *key)

    def put_publicity(self, repository: Repository, asked_at: int, *, public: bool) -> None:
        """Note whether upstream gives a repository to everybody, as it said then."""
        key = (repository.upstream, repository.name)
        self._later(("publicity", *key), sql.PUT_PUBLICITY, *key, int(public), asked_at)

    def drop_publicity(self, repository: Repository) -> None:
        """Forget whether upstream gives a repository to everybody."""
        key = (repository.upstream, repository.name)
        self._later(("publicity", *key), sql.DROP_PUBLICITY, *key)

    # The ledger

    def add_pull(self, pull: PullRow) -> None:
        """Enter a counted request; written at once, because it is money."""
        args = (pull.number, pull.upstream, pull.account, pull.at)
        what = (pull.repository, pull.reference, pull.digest, pull.client)
        self._pulls.append((sql.PUT_PULL, (*args, *what)))
        self._wake.set()

    def move_pulls(self, after: int, seconds: int) -> None:
        """Have all pulls after that number entered so many seconds later."""
        self._pulls.append((sql.MOVE_PULLS, (after, seconds)))
        self._wake.set()

    def put_limit(self, row: LimitRow) -> None:
        """Note what upstream said of its limit."""
        args = (row.upstream, row.account, row.allowed, row.remaining, row.window)
        key = ("limit", row.upstream, row.account)
        self._later(key, sql.PUT_LIMIT, *args, row.source, row.at, row.after)

    def drop_limit(self, upstream: str, account: str) -> None:
        """Forget a limit that upstream names no more."""
        self._later(("limit", upstream, account), sql.DROP_LIMIT, upstream, account)

    def put_gate(self, row: GateRow) -> None:
        """Note until when upstream is not asked."""
        args = (row.upstream, row.account)
        self._later(("gate", *args), sql.PUT_GATE, *args, row.until, row.seconds)

    def put_asked(self, upstream: str, hour: int, pulls: int) -> None:
        """Note how many pulls clients asked for in the hour that began then."""
        self._later(("asked", upstream, hour), sql.PUT_ASKED, upstream, hour, pulls)

    async def prune(self, now: int, keep: int, words: int) -> None:
        """Forget pulls that are older than `keep` seconds, and what was said, than `words`.

        The age is that before the last entry: a clock far ahead must not have all there is dropped.
        """
        async with self._flushing:
            try:
                [[last]] = await self._database.fetch(sql.LAST_ENTRY)
                now = now if last is None else min(now, last)
                writes = [(prune, (now - keep,)) for prune in sql.PRUNE]
                writes += [(prune, (now - words,)) for prune in sql.PRUNE_WORDS]
                await self._database.write(writes)
            except (sqlite3.Error, ValueError) as error:
                _log.error("cannot prune the ledger, will try again: %s", error)

    # Reading, at start

    async def blobs(self) -> list[Row]:
        """Return (digest, size, media type, used at, changed at), least recently used first."""
        return await self._database.fetch(
            "SELECT digest, size, media_type, used_at, changed_at FROM blob ORDER BY used_at"
        )

    async def children(self) -> list[Row]:
        """Return (manifest, digest), by manifest."""
        return await self._database.fetch("SELECT manifest, digest FROM child ORDER BY manifest")

    async def types(self) -> list[Row]:
        """Return (digest, upstream, media type)."""
        return await self._database.fetch("SELECT digest, upstream, media_type FROM manifest_type")

    async def links(self) -> list[Row]:
        """Return (digest, upstream, repository)."""
        return await self._database.fetch("SELECT digest, upstream, repository FROM link")

    async def tags(self) -> list[Row]:
        """Return (upstream, repository, tag, digest, media type, size, checked at) by age."""
        return await self._database.fetch(
            "SELECT upstream, repository, tag, digest, media_type, size, checked_at FROM tag "
            "ORDER BY checked_at"
        )

    async def publicity(self) -> list[Row]:
        """Return (upstream, repository, public, asked at) by age."""
        return await self._database.fetch(
            "SELECT upstream, repository, public, asked_at FROM publicity ORDER BY asked_at"
        )

    async def limits(self) -> list[LimitRow]:
        """Return what upstreams said of their limits."""
        rows = await self._database.fetch(
            "SELECT upstream, account, allowed, remaining, window_length, source, at, after_pull "
            "FROM pull_limit"
        )
        return [LimitRow(*row) for row in rows]

    async def gates(self) -> list[GateRow]:
        """Return until when upstreams are not asked."""
        rows = await self._database.fetch("SELECT upstream, account, until, seconds FROM pull_gate")
        return [GateRow(*row) for row in rows]

    async def pulls(self, since: int) -> list[Row]:
        """Return (number, upstream, account, at, client) of what was entered since then, in order.

        By the order of entry: what has an older time among them was entered by a wrong clock.
        """
        return await self._database.fetch(
            "SELECT id, upstream, account, at, client FROM pull "
            "WHERE id >= (SELECT min(id) FROM pull WHERE at >= $1) ORDER BY id",
            since,
        )

    async def last_pull(self) -> int:
        """Return the number of the last pull."""
        [[number]] = await self._database.fetch("SELECT coalesce(max(id), 0) FROM pull")
        return int(number)

    # Reading, for an operator

    async def asked(self, since: int) -> list[Row]:
        """Return (upstream, hour, pulls) of the hours since then."""
        return await self._database.fetch(
            "SELECT upstream, hour, pulls FROM asked WHERE hour >= $1", since
        )

    async def spenders(
        self, what: str, upstream: str, account: str, since: int, most: int
    ) -> list[SpenderRow]:
        """Return the clients, repositories or tags with the most pulls since then."""
        rows = await self._database.fetch(sql.SPENDERS[what], upstream, account, since, most)
        return [SpenderRow(*row) for row in rows]

    # Writing behind

    async def due(self) -> None:
        """Wait until it is time to flush."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval):
                await self._wake.wait()
        self._wake.clear()

    async def flush(self) -> bool:
        """Write what is pending; tells whether the database may have grown.

        If that fails it stays pending: requests do not depend on it.
        """
        async with self._flushing:
            await self._rescue()
            if not self._pending and not self._pulls:
                return False
            while self._pending or self._pulls:
                if not await self._flush_slice():
                    break
            else:
                if self._database.alone:  # opened on a full disk, which takes writes again
                    await self._reopen()
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
            if _has_lost(error):
                await self._begin_anew(error)
            elif self._database.closed or is_failure_of_disk(error):
                await self._reopen()
            return False
        return True

    async def _rescue(self) -> None:
        """Write the database anew where its file was deleted: we still have it open."""
        try:
            if not self._database.closed and await self._database.vanished():
                _log.error("the index %s was deleted: written anew", self._database.path)
                await self._database.rewrite()
        except (sqlite3.Error, OSError) as error:
            _log.error("cannot write the index anew, will try again: %s", error)

    async def _reopen(self) -> None:
        """Open the file anew: a disk that is back may serve a new connection, not the old one."""
        path = self._database.path
        try:
            await self._database.close()
            if await self._database.vanished():
                raise sqlite3.DatabaseError("deleted")
            self._database = await Database.open(path)
        except (sqlite3.Error, OSError, StoreError) as error:
            if _has_lost(error):
                await self._begin_anew(error)
            else:
                _log.error("cannot open the index %s, will try again: %s", path, error)

    async def _begin_anew(self, error: Exception) -> None:
        """Put an empty database in place of a damaged one, and have all that is known told again.

        What no part keeps in memory is lost: the names of the pulls in the ledger, not their count.
        """
        path = self._database.path
        try:
            await self._database.close()
            await asyncio.to_thread(move_aside, path)
            self._database = await Database.open(path)
        except (sqlite3.Error, OSError, ValueError) as failure:
            _log.error("cannot replace the damaged index %s: %s", path, failure)
            return
        _log.error("the index %s is damaged (%s): moved aside, told anew", path, error)
        self._pulls.clear()
        for tell in self.sources:
            tell()

    def _later(self, key: tuple[object, ...], statement: str, *args: object) -> None:
        self._pending.pop(key, None)  # the newest write comes last
        self._pending[key] = (statement, args)


def _has_lost(error: Exception) -> bool:
    """Whether a database that was sound when it was opened is so no longer."""
    return isinstance(error, sqlite3.Error) and (
        is_damage(error) or str(error).startswith("no such table")
    )
