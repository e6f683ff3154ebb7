"""The index in SQL: read whole at start, written behind, never asked by a request."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository
from mirror.store import statements as sql
from mirror.store.behind import Behind, Source
from mirror.store.rows import GateRow, LimitRow, PullRow, SpenderRow
from mirror.store.sqlite import Database, Row


class Index:
    """The database and what is still to be written to it.

    Writes coalesce by what they are about and reach the disk every `interval` seconds; a crash
    loses at most these, and the start repairs what that left behind. Written at once are a pull,
    and that a repository holds a digest: without it, upstream would be asked for that again.

    `sources` are asked to tell all they know where the database turns out to be damaged while it
    is in use, and an empty one takes its place.
    """

    def __init__(self, database: Database, interval: float = 1.0) -> None:
        self._behind = Behind(database, interval)

    def __repr__(self) -> str:
        return f"<Index: {self._behind.pending} writes pending>"

    @property
    def sources(self) -> list[Source]:
        """Who is asked to tell all there is."""
        return self._behind.sources

    async def close(self) -> None:
        """Write what is pending and close, whoever stops waiting for it."""
        await self._behind.close()

    async def abandon(self) -> None:
        """Close at once, whoever stops waiting: what is pending the next start finds out again."""
        await self._behind.abandon()

    async def due(self) -> None:
        """Wait until it is time to flush."""
        await self._behind.due()

    async def flush(self) -> bool:
        """Write what is pending; tells whether the database may have grown.

        If that fails it stays pending: requests do not depend on it. It goes to its end, whoever
        stops waiting for it.
        """
        return await self._behind.flush()

    async def pulls_written(self) -> None:
        """Wait until the pulls so far are on the disk, for half a second at most."""
        await self._behind.pulls_written()

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
        self._behind.later(("blob", digest), sql.PUT_BLOB, *args)

    def put_children(self, digest: Digest, children: Iterable[Digest]) -> None:
        """Note what a kept manifest points at."""
        for child in children:
            self._behind.later(("child", digest, child), sql.PUT_CHILD, str(digest), str(child))

    def put_type(self, digest: Digest, upstream: str, media_type: str) -> None:
        """Note what an upstream calls a kept manifest."""
        args = (str(digest), upstream, media_type)
        self._behind.later(("type", *args[:2]), sql.PUT_TYPE, *args)

    def put_link(self, digest: Digest, repository: Repository) -> None:
        """Note that a repository holds a digest."""
        args = (str(digest), repository.upstream, repository.name)
        self._behind.later(("link", *args), sql.PUT_LINK, *args)
        self._behind.soon()

    def drop_link(self, digest: Digest, repository: Repository) -> None:
        """Forget that a repository holds a digest."""
        args = (str(digest), repository.upstream, repository.name)
        self._behind.later(("link", *args), sql.DROP_LINK, *args)

    def touch(self, digest: Digest, used_at: int) -> None:
        """Note a use. A blob that is still to be written keeps its own time: it is as recent."""
        if not self._behind.awaits(("blob", digest)):
            self._behind.later(("touch", digest), sql.TOUCH, str(digest), used_at)

    def drop(self, digest: Digest) -> None:
        """Forget a digest with its links and children."""
        for table, statement in sql.DROP:
            self._behind.later((table, digest), statement, str(digest))

    def put_tag(self, repository: Repository, tag: str, found: Descriptor, at: int) -> None:
        """Note what a tag pointed at when it was checked."""
        key = (repository.upstream, repository.name, str(tag))
        args = (*key, str(found.digest), found.media_type, found.size, at)
        self._behind.later(("tag", *key), sql.PUT_TAG, *args)

    def drop_tag(self, repository: Repository, tag: str) -> None:
        """Forget a tag."""
        key = (repository.upstream, repository.name, str(tag))
        self._behind.later(("tag", *key), sql.DROP_TAG, *key)

    def put_publicity(self, repository: Repository, asked_at: int, *, public: bool) -> None:
        """Note whether upstream gives a repository to everybody, as it said then."""
        key = (repository.upstream, repository.name)
        self._behind.later(("publicity", *key), sql.PUT_PUBLICITY, *key, int(public), asked_at)

    def drop_publicity(self, repository: Repository) -> None:
        """Forget whether upstream gives a repository to everybody."""
        key = (repository.upstream, repository.name)
        self._behind.later(("publicity", *key), sql.DROP_PUBLICITY, *key)

    # The ledger

    def add_pull(self, pull: PullRow) -> None:
        """Enter a counted request; written at once, because it is money."""
        args = (pull.number, pull.upstream, pull.account, pull.at)
        what = (pull.repository, pull.reference, pull.digest, pull.client)
        self._behind.add_pull(sql.PUT_PULL, *args, *what)

    def move_pulls(self, after: int, seconds: int) -> None:
        """Have all pulls after that number entered so many seconds later."""
        self._behind.add_pull(sql.MOVE_PULLS, after, seconds)

    def put_limit(self, row: LimitRow) -> None:
        """Note what upstream said of its limit."""
        args = (row.upstream, row.account, row.allowed, row.remaining, row.window)
        key = ("limit", row.upstream, row.account)
        self._behind.later(key, sql.PUT_LIMIT, *args, row.source, row.at, row.after)

    def drop_limit(self, upstream: str, account: str) -> None:
        """Forget a limit that upstream names no more."""
        self._behind.later(("limit", upstream, account), sql.DROP_LIMIT, upstream, account)

    def put_gate(self, row: GateRow) -> None:
        """Note until when upstream is not asked."""
        args = (row.upstream, row.account)
        self._behind.later(("gate", *args), sql.PUT_GATE, *args, row.until, row.seconds)

    def put_asked(self, upstream: str, hour: int, pulls: int) -> None:
        """Note how many pulls clients asked for in the hour that began then."""
        self._behind.later(("asked", upstream, hour), sql.PUT_ASKED, upstream, hour, pulls)

    async def prune(self, now: int, keep: int, words: int) -> None:
        """Forget pulls that are older than `keep` seconds, and what was said, than `words`.

        The age is that before the last entry: a clock far ahead must not have all there is dropped.
        """
        await self._behind.prune(now, keep, words)

    async def keep_last(self, accounts: Iterable[tuple[str, str]], most: int) -> None:
        """Forget all but the last pulls of each account, by upstream and its name there."""
        await self._behind.keep_last(accounts, most)

    # Reading, at start

    async def blobs(self) -> list[Row]:
        """Return (digest, size, media type, used at, changed at), least recently used first."""
        return await self._behind.fetch(
            "SELECT digest, size, media_type, used_at, changed_at FROM blob ORDER BY used_at"
        )

    async def children(self) -> list[Row]:
        """Return (manifest, digest), by manifest."""
        return await self._behind.fetch("SELECT manifest, digest FROM child ORDER BY manifest")

    async def types(self) -> list[Row]:
        """Return (digest, upstream, media type)."""
        return await self._behind.fetch("SELECT digest, upstream, media_type FROM manifest_type")

    async def links(self) -> list[Row]:
        """Return (digest, upstream, repository)."""
        return await self._behind.fetch("SELECT digest, upstream, repository FROM link")

    async def tags(self) -> list[Row]:
        """Return (upstream, repository, tag, digest, media type, size, checked at) by age."""
        return await self._behind.fetch(
            "SELECT upstream, repository, tag, digest, media_type, size, checked_at FROM tag "
            "ORDER BY checked_at"
        )

    async def publicity(self) -> list[Row]:
        """Return (upstream, repository, public, asked at) by age."""
        return await self._behind.fetch(
            "SELECT upstream, repository, public, asked_at FROM publicity ORDER BY asked_at"
        )

    async def limits(self) -> list[LimitRow]:
        """Return what upstreams said of their limits."""
        rows = await self._behind.fetch(
            "SELECT upstream, account, allowed, remaining, window_length, source, at, after_pull "
            "FROM pull_limit"
        )
        return [LimitRow(*row) for row in rows]

    async def gates(self) -> list[GateRow]:
        """Return until when upstreams are not asked."""
        rows = await self._behind.fetch("SELECT upstream, account, until, seconds FROM pull_gate")
        return [GateRow(*row) for row in rows]

    async def pulls(self, since: int) -> list[Row]:
        """Return (number, upstream, account, at, client) of what was entered since then, in order.

        By the order of entry: what has an older time among them was entered by a wrong clock.
        """
        return await self._behind.fetch(
            "SELECT id, upstream, account, at, client FROM pull "
            "WHERE id >= (SELECT min(id) FROM pull WHERE at >= $1) ORDER BY id",
            since,
        )

    async def last_pull(self) -> int:
        """Return the number of the last pull."""
        [[number]] = await self._behind.fetch("SELECT coalesce(max(id), 0) FROM pull")
        return int(number)

    # Reading, for an operator

    async def asked(self, since: int) -> list[Row]:
        """Return (upstream, hour, pulls) of the hours since then."""
        return await self._behind.fetch(
            "SELECT upstream, hour, pulls FROM asked WHERE hour >= $1", since
        )

    async def spenders(
        self, what: str, upstream: str, account: str, since: int, most: int
    ) -> list[SpenderRow]:
        """Return the clients, repositories or tags with the most pulls since then."""
        rows = await self._behind.fetch(sql.SPENDERS[what], upstream, account, since, most)
        return [SpenderRow(*row) for row in rows]
