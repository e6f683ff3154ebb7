"""The store of the index in SQL: read whole at start, written behind, queried by no request."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

from mirror.oci.names import Reference, Repository
from mirror.storage.errors import in_words
from mirror.storage.metadata.protocol import MetadataDamaged, MetadataError, Spender
from mirror.storage.metadata.rows import (
    AccountKey,
    AskedRow,
    GateRow,
    HistoryRow,
    LimitRow,
    PastPull,
    PinRow,
    PublicityRow,
    PullRow,
    SpenderRow,
    TagKey,
    TagRow,
    TopRow,
)
from mirror.storage.metadata.sqlite import columns
from mirror.storage.metadata.sqlite import statements as sql
from mirror.storage.metadata.sqlite.content_rows import ContentRows
from mirror.storage.metadata.sqlite.database import WAL_BYTES, Write
from mirror.storage.metadata.sqlite.file import IndexFile

_log = logging.getLogger(__name__)
_NAME: Final = "index.db"
_INTERVAL = 1.0  # seconds between two flushes


async def open_sqlite(folder: Path) -> SqliteMetadata:
    """Open the index of a data folder; a damaged one is moved aside and rebuilt.

    Raises StoreError if it was written by a newer version or cannot be opened.
    """
    return SqliteMetadata(await IndexFile.open(folder / _NAME), _INTERVAL)


class SqliteMetadata(ContentRows):
    """A `MetadataStore`: the rows are written to the database in batches, once a second.

    A crash loses at most one interval, and the next start repairs the rest. If the database turns
    out to be damaged while in use, an empty one replaces it, and the sources write all rows again.
    """

    log_bytes: Final = WAL_BYTES

    def __repr__(self) -> str:
        return f"<SqliteMetadata: {self.pending} writes pending>"

    @property
    def name(self) -> str:
        """The path of the database."""
        return str(self._file.path)

    @staticmethod
    def is_log(file_name: str) -> bool:
        """Whether a file is the write-ahead log, which grows and shrinks all the time."""
        return file_name.endswith("-wal")

    async def start_over(self, error: MetadataDamaged) -> None:
        """Replace a database that turned out to be damaged while it was read at start."""
        self.forget()
        await self._file.start_over(error)

    # Tags and repositories

    def put_tag(self, row: TagRow) -> None:
        """See `TagMetadata`."""
        found = (str(row.found.digest), row.found.media_type, row.found.size)
        args = (*columns.tag_columns(row.key), *found, row.checked_at)
        self.later(("tag", row.key), (sql.PUT_TAG, args))

    def drop_tag(self, key: TagKey) -> None:
        """See `TagMetadata`."""
        self.later(("tag", key), (sql.DROP_TAG, columns.tag_columns(key)))

    async def tags(self) -> list[TagRow]:
        """See `TagMetadata`."""
        return await self._file.fetch(columns.tag_row, sql.TAGS)

    def put_pin(self, row: PinRow) -> None:
        """See `PinMetadata`."""
        name = (row.repository.upstream, row.repository.name, str(row.reference))
        args = (*name, str(row.digest), row.pinned_at)
        self.later(("pin", row.repository, row.reference), (sql.PUT_PIN, args))
        self.soon()

    def drop_pin(self, repository: Repository, reference: Reference) -> None:
        """See `PinMetadata`."""
        args = (repository.upstream, repository.name, str(reference))
        self.later(("pin", repository, reference), (sql.DROP_PIN, args))
        self.soon()

    async def pins(self) -> list[PinRow]:
        """See `PinMetadata`."""
        return await self._file.fetch(columns.pin_row, sql.PINS)

    def put_publicity(self, row: PublicityRow) -> None:
        """See `PublicityMetadata`."""
        repository = row.repository
        args = (repository.upstream, repository.name, int(row.public), row.asked_at)
        self.later(("publicity", repository), (sql.PUT_PUBLICITY, args))

    def drop_publicity(self, repository: Repository) -> None:
        """See `PublicityMetadata`."""
        args = (repository.upstream, repository.name)
        self.later(("publicity", repository), (sql.DROP_PUBLICITY, args))

    async def publicity(self) -> list[PublicityRow]:
        """See `PublicityMetadata`."""
        return await self._file.fetch(columns.publicity_row, sql.PUBLICITY)

    # The ledger

    def add_pull(self, pull: PullRow) -> None:
        """See `LedgerMetadata`."""
        what = (pull.repository, pull.reference, pull.digest, pull.client)
        args = (pull.session, pull.entry, *pull.account, pull.at, *what)
        self.add_entry((sql.PUT_PULL, args))

    def move_pulls(self, session: int, seconds: int) -> None:
        """See `LedgerMetadata`."""
        self.add_entry((sql.MOVE_PULLS, (session, seconds)))

    def put_limit(self, row: LimitRow) -> None:
        """See `LedgerMetadata`."""
        reported = (row.allowed, row.remaining, row.window, row.source, row.at)
        self.after_entries(row.account, (sql.PUT_LIMIT, (*row.account, *reported)))

    def drop_limit(self, account: AccountKey) -> None:
        """See `LedgerMetadata`."""
        self.after_entries(account, (sql.DROP_LIMIT, (*account,)))

    def put_gate(self, row: GateRow) -> None:
        """See `LedgerMetadata`."""
        args = (*row.account, row.until, row.seconds)
        self.later(("gate", row.account), (sql.PUT_GATE, args))

    def put_asked(self, row: AskedRow) -> None:
        """See `LedgerMetadata`."""
        self.later(("asked", row.upstream, row.hour), (sql.PUT_ASKED, (*row,)))

    async def prune(self, now: int, *, keep: int, words: int) -> None:
        """See `LedgerMetadata`."""

        async def prune() -> None:
            [last] = await self._file.fetch(columns.one_value, sql.LAST_ENTRY)
            end = now if last is None else min(now, last)
            writes: list[Write] = [(each, (end - keep,)) for each in sql.PRUNE]
            writes += [(each, (end - words,)) for each in sql.PRUNE_WORDS]
            writes.append((sql.PRUNE_AFTER, ()))
            await self._file.write(writes)

        await self.between_flushes(_logged(prune))

    async def keep_last(self, accounts: Iterable[AccountKey], most: int) -> None:
        """See `LedgerMetadata`."""
        writes: list[Write] = [(sql.KEEP_LAST, (*account, most)) for account in accounts]
        await self.between_flushes(_logged(lambda: self._file.write(writes)))

    async def limits(self) -> list[LimitRow]:
        """See `LedgerMetadata`."""
        return await self._file.fetch(columns.limit_row, sql.LIMITS)

    async def gates(self) -> list[GateRow]:
        """See `LedgerMetadata`."""
        return await self._file.fetch(columns.gate_row, sql.GATES)

    async def pulls(self, since: int) -> list[PastPull]:
        """See `LedgerMetadata`."""
        return await self._file.fetch(columns.past_pull_row, sql.PULLS, since)

    async def asked(self, since: int) -> list[AskedRow]:
        """See `LedgerMetadata`."""
        return await self._file.fetch(AskedRow, sql.ASKED, since)

    async def spenders(
        self, what: Spender, account: AccountKey, *, since: int, most: int
    ) -> list[SpenderRow]:
        """See `LedgerMetadata`."""
        return await self._file.fetch(SpenderRow, sql.SPENDERS[what], *account, since, most)

    # The history

    def put_history(self, row: HistoryRow) -> None:
        """See `HistoryMetadata`."""
        name = row.step, row.at, row.upstream
        self.later(("history", *name), (sql.PUT_HISTORY, (*name, *row.figures)))

    def drop_history(self, step: int, at: int, upstream: str) -> None:
        """See `HistoryMetadata`."""
        name = step, at, upstream
        self.later(("history", *name), (sql.DROP_HISTORY, name))

    async def history(self) -> list[HistoryRow]:
        """See `HistoryMetadata`."""
        return await self._file.fetch(columns.history_row, sql.HISTORY)

    def put_top(self, row: TopRow) -> None:
        """See `HistoryMetadata`."""
        self.later(("top", row.hour, row.what, row.name), (sql.PUT_TOP, (*row,)))

    def drop_top(self, hour: int) -> None:
        """See `HistoryMetadata`."""
        self.later(("top", hour), (sql.DROP_TOP, (hour,)))

    async def top(self) -> list[TopRow]:
        """See `HistoryMetadata`."""
        return await self._file.fetch(TopRow, sql.TOP)


def _logged(work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Have a failure to prune logged: it is tried again later."""

    async def logged() -> None:
        try:
            await work()
        except MetadataError as error:
            _log.error("cannot prune the ledger, will try again: %s", in_words(error))

    return logged
