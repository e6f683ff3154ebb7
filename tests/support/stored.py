"""The stored content of a mirror that runs: what its books say, and what upsets them."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.entry import Entry
from mirror.storage.store import Store

_UPSTREAM = "docker.io"


class Stored:
    """The one way from tests outside the storage room to the insides of a store.

    Sizes are in bytes. Names of repositories are those of `docker.io`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    # What the books say

    @property
    def digests(self) -> list[Digest]:
        """The digests of all stored blobs and manifests."""
        return list(self._store.catalog)

    def has(self, digest: str) -> bool:
        """Whether a digest is stored."""
        return self._store.catalog.get(Digest(digest)) is not None

    def changed_at(self, digest: str) -> int | None:
        """When the proven file of a stored digest was written, in nanoseconds."""
        return self._entry(digest).changed_at

    def children(self, digest: str) -> list[Digest]:
        """Return the digests that a stored manifest refers to."""
        return list(self._entry(digest).children)

    def repositories(self, digest: str) -> list[str]:
        """Return the names of the repositories that a stored digest is linked to."""
        return [each.name for each in self._entry(digest).links]

    @property
    def unfinished(self) -> list[Digest]:
        """The digests of partials without a fetch."""
        return list(self._store.accounting.idle_partials)

    def readers(self, digest: str) -> int:
        """Return the number of readers of a stored digest."""
        return self._entry(digest).readers

    @property
    def quarantined(self) -> int:
        """The number of files in quarantine."""
        return len(self._store.accounting.quarantine)

    @property
    def used(self) -> int:
        """The bytes that count towards `max_size`."""
        return self._store.accounting.used

    @property
    def blob_bytes(self) -> int:
        """The part of them for stored blobs and manifests."""
        return self._store.catalog.bytes

    @property
    def promised(self) -> int:
        """The room that is reserved for fetches."""
        return self._store.accounting.promised

    @property
    def max_size(self) -> int:
        """The limit."""
        return self._store.accounting.max_size

    @max_size.setter
    def max_size(self, max_size: int) -> None:
        self._store.accounting.max_size = max_size

    @property
    def evicted(self) -> int:
        """The number of evicted blobs."""
        return self._store.accounting.evicted

    @property
    def failures(self) -> int:
        """The number of failures of the disk, and of wrong files."""
        return self._store.failures

    @property
    def unwritten(self) -> int:
        """The number of rows that the index on the disk does not have yet."""
        return self._store.index.pending

    # What upsets them

    def enter(
        self,
        digest: Digest,
        *repositories: Repository,
        size: int = 0,
        media_type: str | None = None,
        children: Iterable[Digest] = (),
    ) -> None:
        """Enter a blob, or a manifest if it has a media type, without a file."""
        catalog = self._store.catalog
        catalog.add(digest, Entry(size, None, 0, 0))
        for repository in repositories:
            catalog.link(digest, repository)
        if media_type is not None:
            catalog.describe(digest, media_type, tuple(children))

    def link(self, digest: Digest, repository: Repository) -> None:
        """Link a stored digest to a repository, in memory only."""
        self._store.catalog.link(digest, repository)

    def unlink(self, digest: str, name: str) -> None:
        """Remove a stored digest's link to a repository."""
        self._store.accounting.unlink(Digest(digest), Repository(_UPSTREAM, name))

    def touch(self, digest: Digest) -> None:
        """Record a use."""
        self._store.accounting.touch(digest)

    def age(self, seconds: int) -> None:
        """Have all content be last used so many seconds earlier."""
        for digest in self._store.catalog:
            self._entry(digest).used_at -= seconds

    def use_at(self, digest: str, seconds: int) -> None:
        """Write a time of use to the index, in seconds since the epoch."""
        self._store.index.touch(Digest(digest), seconds)

    def forget_row(self, digest: Digest) -> None:
        """Remove the row of a blob from the index."""
        self._store.index.drop(digest)

    async def reserve(self, size: int, *, gains: str | None = None) -> int:
        """Reserve room, and evict for it; see `Quota.reserve`."""
        return await self._store.quota.reserve(size, gains=gains)

    def release(self, size: int) -> None:
        """Release a reservation."""
        self._store.quota.release(size)

    async def evict(self, digest: str) -> None:
        """Remove a stored digest and its file."""
        await self._store.quota.remove([Digest(digest)])

    async def remove_partials(self, *digests: str) -> None:
        """Remove the partials of these digests, as an order to collect garbage does."""
        await self._store.quota.remove_partials([Digest(each) for each in digests])

    async def discard(self, digest: str) -> None:
        """Have a stored digest be found wrong."""
        await self._store.discard(Digest(digest))

    async def flush(self) -> None:
        """Write the index."""
        await self._store.index.flush()

    def _entry(self, digest: str) -> Entry:
        entry = self._store.catalog.get(Digest(digest))
        assert entry is not None, digest
        return entry
