"""The seam of metadata: what other rooms ask of a store of rows, and its errors.

Each part takes the narrow protocol that it needs. `tests/storage/metadata_store_conformance.py`
holds for each implementation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
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

# A function that queues the rows which may be queued only once, and returns an iterable that queues
# all others as it is consumed.
Source: TypeAlias = Callable[[], Iterable[object]]
Spender: TypeAlias = Literal["client", "repository", "tag"]


class MetadataError(Exception):
    """Rows cannot be read or written, perhaps only for now. The message says why."""


class MetadataDamaged(MetadataError):
    """The stored rows are damaged: reading or writing them again does not help."""


class RowRefused(MetadataError):
    """A row that the database cannot hold."""


class Rebuilt(Protocol):
    """A store that may lose its rows in use, and gets them again from the parts of the mirror."""

    def when_lost(self, source: Source) -> None:
        """Have `source` write its rows again, should they be lost while the store is in use."""


class ContentMetadata(Rebuilt, Protocol):
    """The rows of stored content."""

    def put_blob(self, row: BlobRow) -> None:
        """Record a stored blob or manifest."""

    def put_child(self, row: ChildRow) -> None:
        """Record a digest that a manifest references, if the manifest is stored."""

    def put_type(self, row: TypeRow) -> None:
        """Record an upstream's media type for a manifest, if the manifest is stored."""

    def put_link(self, row: LinkRow) -> None:
        """Record that a repository contains a digest, if it is stored. Written at once."""

    def drop_link(self, row: LinkRow) -> None:
        """Delete the record that a repository contains a digest."""

    def touch(self, digest: Digest, used_at: int) -> None:
        """Record a use. A blob with a pending row keeps that row's time, which is as recent."""

    def drop(self, digest: Digest) -> None:
        """Delete a digest, with its links, types and children."""

    async def total(self) -> TotalRow:
        """Return the sums over the stored content, without counting. Raises MetadataError."""

    async def blobs(self) -> Sequence[BlobRow]:
        """Return the stored content, least recently used first. Raises MetadataError."""

    async def children(self) -> Sequence[ChildRow]:
        """Return the references of manifests, by manifest. Raises MetadataError."""

    async def types(self) -> Sequence[TypeRow]:
        """Return the upstreams' media types. Raises MetadataError."""

    async def links(self) -> Sequence[LinkRow]:
        """Return the links; equal repositories are one object. Raises MetadataError."""


class TagMetadata(Rebuilt, Protocol):
    """The rows of tags."""

    def put_tag(self, row: TagRow) -> None:
        """Record the manifest of a tag."""

    def drop_tag(self, key: TagKey) -> None:
        """Delete a tag."""

    async def tags(self) -> Sequence[TagRow]:
        """Return the tags, by the time of their last check. Raises MetadataError."""


class PinMetadata(Rebuilt, Protocol):
    """The rows of pinned images."""

    def put_pin(self, row: PinRow) -> None:
        """Record a pinned image. Written at once: nothing else knows of it."""

    def drop_pin(self, repository: Repository, reference: Reference) -> None:
        """Delete the record of a pinned image. Written at once."""

    async def pins(self) -> Sequence[PinRow]:
        """Return the pinned images, by the time of their pinning. Raises MetadataError."""


class PublicityMetadata(Rebuilt, Protocol):
    """The rows of public and private repositories."""

    def put_publicity(self, row: PublicityRow) -> None:
        """Record whether a repository is public."""

    def drop_publicity(self, repository: Repository) -> None:
        """Delete the record of whether a repository is public."""

    async def publicity(self) -> Sequence[PublicityRow]:
        """Return the records, by the time of the question. Raises MetadataError."""


class LedgerMetadata(Rebuilt, Protocol):
    """The rows of the ledger."""

    def add_pull(self, pull: PullRow) -> None:
        """Enter a counted request. Written at once, because pulls are money."""

    def move_pulls(self, session: int, seconds: int) -> None:
        """Shift the times of all pulls of a session by `seconds`."""

    def put_limit(self, row: LimitRow) -> None:
        """Record the limit as upstream last reported it, after the pulls that were entered."""

    def drop_limit(self, account: AccountKey) -> None:
        """Delete a limit that upstream no longer reports."""

    def put_gate(self, row: GateRow) -> None:
        """Record until when the gate is shut."""

    def put_asked(self, row: AskedRow) -> None:
        """Record the number of pulls that clients requested in an hour."""

    async def prune(self, now: int, *, keep: int, words: int) -> None:
        """Delete pulls older than `keep` seconds, limits and gates older than `words` seconds.

        Ages are relative to the last entry: a clock that is far ahead must not delete all rows.
        """

    async def keep_last(self, accounts: Iterable[AccountKey], most: int) -> None:
        """Delete all but the last `most` pulls of each account."""

    async def flush(self) -> bool:
        """Write all rows; returns whether the disk may have less room now.

        Rows of a failed write stay pending: requests do not depend on them. Completes even if the
        caller is cancelled.
        """

    async def limits(self) -> Sequence[LimitRow]:
        """Return the limits as upstreams last reported them. Raises MetadataError."""

    async def gates(self) -> Sequence[GateRow]:
        """Return until when the gate of each account is shut. Raises MetadataError."""

    async def pulls(self, since: int) -> Sequence[PastPull]:
        """Return the pulls since then, in the order of entry. Raises MetadataError.

        The order is not that of time: an older time in between comes from a wrong clock.
        """

    async def asked(self, since: int) -> Sequence[AskedRow]:
        """Return the requests of the hours since then. Raises MetadataError."""

    async def spenders(
        self, what: Spender, account: AccountKey, *, since: int, most: int
    ) -> Sequence[SpenderRow]:
        """Return the clients, repositories or tags with the most pulls since then.

        Raises MetadataError.
        """


class HistoryMetadata(Rebuilt, Protocol):
    """The rows of the history and of its top lists."""

    def put_history(self, row: HistoryRow) -> None:
        """Record the sums of a step."""

    def drop_history(self, step: int, at: int, upstream: str) -> None:
        """Delete the sums of a step."""

    async def history(self) -> Sequence[HistoryRow]:
        """Return the recorded steps, by time. Raises MetadataError."""

    def put_top(self, row: TopRow) -> None:
        """Record a line of an hour's top list."""

    def drop_top(self, hour: int) -> None:
        """Delete the top lists of an hour."""

    async def top(self) -> Sequence[TopRow]:
        """Return the lines of all top lists, by time. Raises MetadataError."""


class MetadataStore(
    ContentMetadata,
    TagMetadata,
    PinMetadata,
    PublicityMetadata,
    LedgerMetadata,
    HistoryMetadata,
    Protocol,
):
    """All rows, read at start and written behind; no request waits for a query.

    Writes of the same row coalesce. Pulls and links are written at once: without its link, a digest
    would have to be confirmed by upstream again.
    """

    @property
    def name(self) -> str:
        """Where the rows are, for messages."""

    @property
    def pending(self) -> int:
        """The number of writes that did not reach the disk yet."""

    @property
    def log_bytes(self) -> int:
        """The bytes that its log in the data folder takes at most; 0 if it has none."""

    def is_log(self, file_name: str) -> bool:
        """Whether a file of the data folder is its log, which `log_bytes` accounts for."""

    async def due(self) -> None:
        """Wait until the next flush is due."""

    async def pulls_written(self) -> None:
        """Wait until the pulls so far are on the disk, for half a second at most."""

    async def start_over(self, error: MetadataDamaged) -> None:
        """Replace damaged rows by none, before the store is in use. Raises MetadataError."""

    def hurry(self, seconds: float) -> None:
        """End all writing in so many seconds, except that of pulls.

        Rows that the next start finds out again are the last ones, and are dropped then.
        """

    async def close(self) -> None:
        """Write all pending rows and close, even if the caller is cancelled; see `hurry`."""

    async def abandon(self) -> None:
        """Close at once, dropping pending rows: the next start finds out their contents again.

        Completes even if the caller is cancelled.
        """


# Opens the rows of a data folder; damaged ones are replaced. Raises StoreError.
MetadataOpener: TypeAlias = Callable[[Path], Awaitable[MetadataStore]]
