"""Metadata in memory, for tests: a `MetadataStore` with rows that last as long as the object."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.storage.catalog import charged
from mirror.storage.metadata.protocol import MetadataDamaged, Source, Spender
from mirror.storage.metadata.rows import (
    AccountKey,
    AskedRow,
    BlobRow,
    ChildRow,
    GateRow,
    HistoryRow,
    LimitRow,
    LinkRow,
    PastPull,
    PinRow,
    PublicityRow,
    PullRow,
    SpenderRow,
    TagKey,
    TagRow,
    TopRow,
    TotalRow,
    TypeRow,
)


async def open_memory(folder: Path) -> MemoryMetadata:
    """Make an empty store; the folder is left alone."""
    del folder
    return MemoryMetadata()


class MemoryMetadata:
    """All rows, at once where they belong; `lose` is a loss in use."""

    name = "memory"
    pending = 0
    log_bytes = 0

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._clear()

    def __repr__(self) -> str:
        return f"<MemoryMetadata: {len(self._blobs)} blobs>"

    def _clear(self) -> None:
        self._blobs: dict[Digest, BlobRow] = {}
        self._children: set[ChildRow] = set()
        self._types: dict[tuple[Digest, str], TypeRow] = {}
        self._links: set[LinkRow] = set()
        self._tags: dict[TagKey, TagRow] = {}
        self._pins: dict[tuple[Repository, Reference], PinRow] = {}
        self._publicity: dict[Repository, PublicityRow] = {}
        self._pulls: dict[int, PullRow] = {}  # by their numbers
        self._numbers: dict[tuple[int, int], int] = {}  # by session and entry
        self._reported: dict[AccountKey, int] = {}  # the last number before each limit
        self._limits: dict[AccountKey, LimitRow] = {}
        self._gates: dict[AccountKey, GateRow] = {}
        self._asked: dict[tuple[str, int], AskedRow] = {}
        self._history: dict[tuple[int, int, str], HistoryRow] = {}
        self._top: dict[tuple[int, str, str], TopRow] = {}

    def when_lost(self, source: Source) -> None:
        """Keep a source for `lose`."""
        self._sources.append(source)

    def lose(self) -> None:
        """Lose all rows, and have the sources write them again."""
        self._clear()
        for rest in [source() for source in self._sources]:
            for _ in rest:
                pass

    def is_log(self, file_name: str) -> bool:
        """No file is the log: nothing is on the disk."""
        del file_name
        return False

    async def start_over(self, error: MetadataDamaged) -> None:
        """Drop all rows."""
        del error
        self._clear()

    async def due(self) -> None:
        """Wait for ever: no flush is due."""
        await asyncio.Event().wait()

    async def flush(self) -> bool:
        """Write nothing: no row is pending."""
        return False

    async def pulls_written(self) -> None:
        """Return at once."""

    def hurry(self, seconds: float) -> None:
        """Leave nothing out: all rows are where they belong."""

    async def close(self) -> None:
        """Leave the rows as they are."""

    async def abandon(self) -> None:
        """Leave the rows as they are."""

    # Stored content

    def put_blob(self, row: BlobRow) -> None:
        """See `ContentMetadata`."""
        self._blobs[row.digest] = row

    def put_child(self, row: ChildRow) -> None:
        """See `ContentMetadata`."""
        if row.manifest in self._blobs:
            self._children.add(row)

    def put_type(self, row: TypeRow) -> None:
        """See `ContentMetadata`."""
        if row.digest in self._blobs:
            self._types[row.digest, row.upstream] = row

    def put_link(self, row: LinkRow) -> None:
        """See `ContentMetadata`."""
        if row.digest in self._blobs:
            self._links.add(row)

    def drop_link(self, row: LinkRow) -> None:
        """See `ContentMetadata`."""
        self._links.discard(row)

    def touch(self, digest: Digest, used_at: int) -> None:
        """See `ContentMetadata`."""
        if row := self._blobs.get(digest):
            self._blobs[digest] = row._replace(used_at=used_at)

    def drop(self, digest: Digest) -> None:
        """See `ContentMetadata`."""
        self._blobs.pop(digest, None)
        self._children = {row for row in self._children if row.manifest != digest}
        self._types = {key: row for key, row in self._types.items() if row.digest != digest}
        self._links = {row for row in self._links if row.digest != digest}

    async def total(self) -> TotalRow:
        """See `ContentMetadata`."""
        rows = self._blobs.values()
        manifests = sum(1 for row in rows if row.media_type is not None)
        return TotalRow(len(rows), manifests, sum(charged(row.size) for row in rows))

    async def blobs(self) -> list[BlobRow]:
        """See `ContentMetadata`."""
        return sorted(self._blobs.values(), key=lambda row: row.used_at)

    async def children(self) -> list[ChildRow]:
        """See `ContentMetadata`."""
        return sorted(self._children)

    async def types(self) -> list[TypeRow]:
        """See `ContentMetadata`."""
        return list(self._types.values())

    async def links(self) -> list[LinkRow]:
        """See `ContentMetadata`."""
        one = {row.repository: row.repository for row in self._links}
        return [LinkRow(row.digest, one[row.repository]) for row in self._links]

    # Tags and repositories

    def put_tag(self, row: TagRow) -> None:
        """See `TagMetadata`."""
        self._tags[row.key] = row

    def drop_tag(self, key: TagKey) -> None:
        """See `TagMetadata`."""
        self._tags.pop(key, None)

    async def tags(self) -> list[TagRow]:
        """See `TagMetadata`."""
        return sorted(self._tags.values(), key=lambda row: row.checked_at)

    def put_pin(self, row: PinRow) -> None:
        """See `PinMetadata`."""
        self._pins[row.repository, row.reference] = row

    def drop_pin(self, repository: Repository, reference: Reference) -> None:
        """See `PinMetadata`."""
        self._pins.pop((repository, reference), None)

    async def pins(self) -> list[PinRow]:
        """See `PinMetadata`."""
        return sorted(self._pins.values(), key=lambda row: row.pinned_at)

    def put_publicity(self, row: PublicityRow) -> None:
        """See `PublicityMetadata`."""
        self._publicity[row.repository] = row

    def drop_publicity(self, repository: Repository) -> None:
        """See `PublicityMetadata`."""
        self._publicity.pop(repository, None)

    async def publicity(self) -> list[PublicityRow]:
        """See `PublicityMetadata`."""
        return sorted(self._publicity.values(), key=lambda row: row.asked_at)

    # The ledger

    def add_pull(self, pull: PullRow) -> None:
        """See `LedgerMetadata`."""
        name = (pull.session, pull.entry)
        if name not in self._numbers:
            self._numbers[name] = len(self._numbers) + 1
            self._pulls[self._numbers[name]] = pull

    def move_pulls(self, session: int, seconds: int) -> None:
        """See `LedgerMetadata`."""
        for number, pull in self._pulls.items():
            if pull.session == session:
                self._pulls[number] = pull._replace(at=pull.at + seconds)

    def put_limit(self, row: LimitRow) -> None:
        """See `LedgerMetadata`."""
        self._limits[row.account] = row
        self._reported[row.account] = len(self._numbers)

    def drop_limit(self, account: AccountKey) -> None:
        """See `LedgerMetadata`."""
        self._limits.pop(account, None)

    def put_gate(self, row: GateRow) -> None:
        """See `LedgerMetadata`."""
        self._gates[row.account] = row

    def put_asked(self, row: AskedRow) -> None:
        """See `LedgerMetadata`."""
        self._asked[row.upstream, row.hour] = row

    async def prune(self, now: int, *, keep: int, words: int) -> None:
        """See `LedgerMetadata`."""
        entries = [self._pulls[max(self._pulls)].at] if self._pulls else []
        entries += [row.at for row in self._limits.values()]
        end = min(now, max(entries)) if entries else now
        self._pulls = {key: row for key, row in self._pulls.items() if row.at >= end - keep}
        self._asked = {key: row for key, row in self._asked.items() if row.hour >= end - keep}
        self._limits = {key: row for key, row in self._limits.items() if row.at >= end - words}
        self._gates = {key: row for key, row in self._gates.items() if row.until >= end - words}

    async def keep_last(self, accounts: Iterable[AccountKey], most: int) -> None:
        """See `LedgerMetadata`."""
        for account in accounts:
            own = sorted(number for number, row in self._pulls.items() if row.account == account)
            for number in own[:-most]:
                del self._pulls[number]

    async def limits(self) -> list[LimitRow]:
        """See `LedgerMetadata`."""
        return list(self._limits.values())

    async def gates(self) -> list[GateRow]:
        """See `LedgerMetadata`."""
        return list(self._gates.values())

    async def pulls(self, since: int) -> list[PastPull]:
        """See `LedgerMetadata`."""
        pulls = sorted(self._pulls.items())
        first = min((number for number, row in pulls if row.at >= since), default=None)
        return [
            PastPull(row.account, row.at, row.client, self._is_reported(number, row.account))
            for number, row in pulls
            if first is not None and number >= first
        ]

    def _is_reported(self, number: int, account: AccountKey) -> bool:
        return account in self._limits and number <= self._reported[account]

    async def asked(self, since: int) -> list[AskedRow]:
        """See `LedgerMetadata`."""
        return [row for row in self._asked.values() if row.hour >= since]

    async def spenders(
        self, what: Spender, account: AccountKey, *, since: int, most: int
    ) -> list[SpenderRow]:
        """See `LedgerMetadata`."""
        counts = Counter(
            _spender(what, row)
            for row in self._pulls.values()
            if row.account == account and row.at > since and row.repository
        )
        ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
        return [SpenderRow(name, pulls) for name, pulls in ranked[:most]]

    # The history

    def put_history(self, row: HistoryRow) -> None:
        """See `HistoryMetadata`."""
        self._history[row.step, row.at, row.upstream] = row

    def drop_history(self, step: int, at: int, upstream: str) -> None:
        """See `HistoryMetadata`."""
        self._history.pop((step, at, upstream), None)

    async def history(self) -> list[HistoryRow]:
        """See `HistoryMetadata`."""
        return [self._history[key] for key in sorted(self._history)]

    def put_top(self, row: TopRow) -> None:
        """See `HistoryMetadata`."""
        self._top[row.hour, row.what, row.name] = row

    def drop_top(self, hour: int) -> None:
        """See `HistoryMetadata`."""
        self._top = {key: row for key, row in self._top.items() if row.hour != hour}

    async def top(self) -> list[TopRow]:
        """See `HistoryMetadata`."""
        return [self._top[key] for key in sorted(self._top)]


def _spender(what: Spender, row: PullRow) -> str:
    if what == "client":
        return row.client
    if what == "repository":
        return row.repository
    return f"{row.repository}{'@' if ':' in row.reference else ':'}{row.reference}"
