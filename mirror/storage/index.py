"""The index in SQL: read whole at start, written behind, never queried by a request."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository
from mirror.storage import statements as sql
from mirror.storage.rows import (
    GateRow,
    LimitRow,
    PullRow,
    SpenderRow,
)
from mirror.storage.sqlite import Database, Row
from mirror.storage.write_behind import Source, WriteBehind


class Index:
    """The rows of the index, written to the database in batches.

    Writes of the same row coalesce, and reach the disk every `interval` seconds. A crash loses at
    most one interval, and the next start repairs the rest. Pulls and links are written at once:
    without its link, a digest would have to be confirmed by upstream again. If the database turns
    out to be damaged while in use, an empty one replaces it, and `sources` rewrite all rows.
    """

    def __init__(self, database: Database, interval: float = 1.0) -> None:
        self._write_behind = WriteBehind(database, interval)

    def __repr__(self) -> str:
        return f"<Index: {self._write_behind.pending} writes pending>"

    @property
    def sources(self) -> list[Source]:
        """Callbacks that write all rows again."""
        return self._write_behind.sources

    async def close(self) -> None:
        """Write all pending rows and close, even if the caller is cancelled."""
        await self._write_behind.close()

    async def abandon(self) -> None:
        """Close at once, dropping pending rows: the next start finds out their contents again.

        Completes even if the caller is cancelled.
        """
        await self._write_behind.abandon()

    async def due(self) -> None:
        """Wait until the next flush is due."""
        await self._write_behind.due()

    async def flush(self) -> bool:
        """Write all pending rows; returns whether the database may have grown.

        Rows of a failed write stay pending: requests do not depend on them. Completes even if the
        caller is cancelled.
        """
        return await self._write_behind.flush()

    async def pulls_written(self) -> None:
        """Wait until the pulls so far are on the disk, for half a second at most."""
        await self._write_behind.pulls_written()

    # Stored content

    def put_blob(
        self,
        digest: Digest,
        size: int,
        media_type: str | None,
        used_at: int,
        changed_at: int | None = None,
    ) -> None:
        """Record a stored blob or manifest; see `Entry` for the units."""
        args = (str(digest), size, media_type, used_at, changed_at)
        self._write_behind.later(("blob", digest), sql.PUT_BLOB, *args)

    def put_children(self, digest: Digest, children: Iterable[Digest]) -> None:
        """Record the digests that a stored manifest references."""
        for child in children:
            self._write_behind.later(
                ("child", digest, child), sql.PUT_CHILD, str(digest), str(child)
            )

    def put_type(self, digest: Digest, upstream: str, media_type: str) -> None:
        """Record an upstream's media type for a stored manifest."""
        args = (str(digest), upstream, media_type)
        self._write_behind.later(("type", *args[:2]), sql.PUT_TYPE, *args)

    def put_link(self, digest: Digest, repository: Repository) -> None:
        """Record that a repository contains a digest."""
        args = (str(digest), repository.upstream, repository.name)
        self._write_behind.later(("link", *args), sql.PUT_LINK, *args)
        self._write_behind.soon()

    def drop_link(self, digest: Digest, repository: Repository) -> None:
        """Delete the record that a repository contains a digest."""
        args = (str(digest), repository.upstream, repository.name)
        self._write_behind.later(("link", *args), sql.DROP_LINK, *args)

    def touch(self, digest: Digest, used_at: int) -> None:
        """Record a use. A blob with a pending row keeps that row's time, which is as recent."""
        if not self._write_behind.awaits(("blob", digest)):
            self._write_behind.later(("touch", digest), sql.TOUCH, str(digest), used_at)

    def drop(self, digest: Digest) -> None:
        """Delete a digest, with its links and children."""
        for table, statement in sql.DROP:
            self._write_behind.later((table, digest), statement, str(digest))

    def put_tag(self, repository: Repository, tag: str, found: Descriptor, at: int) -> None:
        """Record the descriptor of a tag's manifest as of `at`, the last check."""
        key = (repository.upstream, repository.name, str(tag))
        args = (*key, str(found.digest), found.media_type, found.size, at)
        self._write_behind.later(("tag", *key), sql.PUT_TAG, *args)

    def drop_tag(self, repository: Repository, tag: str) -> None:
        """Delete a tag."""
        key = (repository.upstream, repository.name, str(tag))
        self._write_behind.later(("tag", *key), sql.DROP_TAG, *key)

    def put_publicity(self, repository: Repository, asked_at: int, *, public: bool) -> None:
        """Record whether upstream serves a repository to anonymous clients, as of `asked_at`."""
        key = (repository.upstream, repository.name)
        self._write_behind.later(
            ("publicity", *key), sql.PUT_PUBLICITY, *key, int(public), asked_at
        )

    def drop_publicity(self, repository: Repository) -> None:
        """Delete the record of whether a repository is public."""
        key = (repository.upstream, repository.name)
        self._write_behind.later(("publicity", *key), sql.DROP_PUBLICITY, *key)

    # The ledger

    def add_pull(self, pull: PullRow) -> None:
        """Enter a counted request. Written at once, because pulls are money."""
        args = (pull.number, pull.upstream, pull.account, pull.at)
        what = (pull.repository, pull.reference, pull.digest, pull.client)
        self._write_behind.add_pull(sql.PUT_PULL, *args, *what)

    def move_pulls(self, after: int, seconds: int) -> None:
        """Shift the times of all pulls after a number by `seconds`."""
        self._write_behind.add_pull(sql.MOVE_PULLS, after, seconds)

    def put_limit(self, row: LimitRow) -> None:
        """Record the limit as upstream last reported it."""
        args = (row.upstream, row.account, row.allowed, row.remaining, row.window)
        key = ("limit", row.upstream, row.account)
        self._write_behind.later(key, sql.PUT_LIMIT, *args, row.source, row.at, row.after)

    def drop_limit(self, upstream: str, account: str) -> None:
        """Delete a limit that upstream no longer reports."""
        self._write_behind.later(("limit", upstream, account), sql.DROP_LIMIT, upstream, account)

    def put_gate(self, row: GateRow) -> None:
        """Record until when the gate is shut."""
        args = (row.upstream, row.account)
        self._write_behind.later(("gate", *args), sql.PUT_GATE, *args, row.until, row.seconds)

    def put_asked(self, upstream: str, hour: int, pulls: int) -> None:
        """Record the number of pulls that clients requested in the hour that began at `hour`."""
        self._write_behind.later(("asked", upstream, hour), sql.PUT_ASKED, upstream, hour, pulls)

    async def prune(self, now: int, keep: int, words: int) -> None:
        """Delete pulls older than `keep` seconds, limits and gates older than `words` seconds.

        Ages are relative to the last entry: a clock that is far ahead must not delete all rows.
        """
        await self._write_behind.prune(now, keep, words)

    async def keep_last(self, accounts: Iterable[tuple[str, str]], most: int) -> None:
        """Delete all but the last `most` pulls of each account (upstream, account name)."""
        await self._write_behind.keep_last(accounts, most)

    # Reading, at start

    async def blobs(self) -> list[Row]:
        """Return (digest, size, media type, used at, changed at), least recently used first."""
        return await self._write_behind.fetch(
            "SELECT digest, size, media_type, used_at, changed_at FROM blob ORDER BY used_at"
        )

    async def children(self) -> list[Row]:
        """Return (manifest, digest), by manifest."""
        return await self._write_behind.fetch(
            "SELECT manifest, digest FROM child ORDER BY manifest"
        )

    async def types(self) -> list[Row]:
        """Return (digest, upstream, media type)."""
        return await self._write_behind.fetch(
            "SELECT digest, upstream, media_type FROM manifest_type"
        )

    async def links(self) -> list[Row]:
        """Return (digest, upstream, repository)."""
        return await self._write_behind.fetch("SELECT digest, upstream, repository FROM link")

    async def tags(self) -> list[Row]:
        """Return (upstream, repository, tag, digest, media type, size, checked at) by age."""
        return await self._write_behind.fetch(
            "SELECT upstream, repository, tag, digest, media_type, size, checked_at FROM tag "
            "ORDER BY checked_at"
        )

    async def publicity(self) -> list[Row]:
        """Return (upstream, repository, public, asked at) by age."""
        return await self._write_behind.fetch(
            "SELECT upstream, repository, public, asked_at FROM publicity ORDER BY asked_at"
        )

    async def limits(self) -> list[LimitRow]:
        """Return the limits as upstreams last reported them."""
        rows = await self._write_behind.fetch(
            "SELECT upstream, account, allowed, remaining, window_length, source, at, after_pull "
            "FROM pull_limit"
        )
        return [LimitRow(*row) for row in rows]

    async def gates(self) -> list[GateRow]:
        """Return until when the gate of each account is shut."""
        rows = await self._write_behind.fetch(
            "SELECT upstream, account, until, seconds FROM pull_gate"
        )
        return [GateRow(*row) for row in rows]

    async def pulls(self, since: int) -> list[Row]:
        """Return (number, upstream, account, at, client) of pulls since then, in order of entry.

        The order is that of entry, not of time: an older time in between comes from a wrong clock.
        """
        return await self._write_behind.fetch(
            "SELECT id, upstream, account, at, client FROM pull "
            "WHERE id >= (SELECT min(id) FROM pull WHERE at >= $1) ORDER BY id",
            since,
        )

    async def last_pull(self) -> int:
        """Return the highest pull number."""
        [[number]] = await self._write_behind.fetch("SELECT coalesce(max(id), 0) FROM pull")
        return int(number)

    # Reading, for an operator

    async def asked(self, since: int) -> list[Row]:
        """Return (upstream, hour, pulls) for the hours since then."""
        return await self._write_behind.fetch(
            "SELECT upstream, hour, pulls FROM asked WHERE hour >= $1", since
        )

    async def spenders(
        self, what: str, upstream: str, account: str, since: int, most: int
    ) -> list[SpenderRow]:
        """Return the clients, repositories or tags with the most pulls since then."""
        rows = await self._write_behind.fetch(sql.SPENDERS[what], upstream, account, since, most)
        return [SpenderRow(*row) for row in rows]
