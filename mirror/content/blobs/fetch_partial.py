"""The partial that a fetch writes: resumed, copied or begun anew, and how much room it may take."""

from __future__ import annotations

import logging
from functools import partial
from types import TracebackType
from typing import Self

from mirror.content.blobs.allowance import Allowance
from mirror.content.blobs.possession import Possession
from mirror.oci.digest import Digest
from mirror.oci.errors import UpstreamFailure
from mirror.oci.names import Repository
from mirror.storage.blobs.protocol import PartialBlob
from mirror.storage.entry import Entry
from mirror.storage.errors import NoRoom
from mirror.storage.partial_lease import PartialLease
from mirror.storage.store import Store
from mirror.upstream.blob_source import BlobSource

_log = logging.getLogger(__name__)


class FetchPartial:
    """Holds the lease of a blob's partial for a fetch; it ends as `PartialLease` does.

    The partial of an earlier fetch is resumed if upstream has its bytes, too. If not, or if they
    came from another upstream, that lease is given back and an isolated one takes its place: the
    partial stays as it is for the upstream that sent it. Without an earlier partial, none is
    created before there are bytes to write.
    """

    def __init__(
        self,
        source: BlobSource,
        repository: Repository,
        digest: Digest,
        store: Store,
        possession: Possession,
        allowance: Allowance,
        *,
        isolated: bool,
    ) -> None:
        self._source = source
        self._upstream = repository.upstream
        self._digest = digest
        self._store = store
        self._possession = possession
        self._allowance = allowance
        self._has_it = False  # upstream has the bytes of the partial
        self._lease = self._leased(isolated=isolated)

    def __repr__(self) -> str:
        return f"<FetchPartial: {self._lease!r}>"

    def _leased(self, *, isolated: bool) -> PartialLease:
        reserving = partial(self._allowance.add, self._upstream)
        return self._store.lease(self._digest, isolated=isolated, reserving=reserving)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Keep the bytes for a later fetch, unless the lease has ended."""
        if not self._lease.ended and await self._lease.keep() and self._has_it:
            self._possession.left(self._digest, self._upstream)

    @property
    def isolated(self) -> bool:
        """Whether the blob's own partial is left to another fetch."""
        return self._lease.isolated

    @property
    def blob(self) -> PartialBlob | None:
        """The partial, once it is open; until `close`."""
        return self._lease.partial

    @property
    def written(self) -> int:
        """Bytes of the blob in the partial."""
        return self._lease.written

    @property
    def reserved(self) -> int:
        """Bytes of room that are reserved."""
        return self._lease.reserved

    # Resuming

    async def resume(self) -> None:
        """Open the partial of an earlier fetch, if there is one; raises NoRoom, StorageError."""
        await self._lease.resume()

    async def show(self, repository: Repository) -> None:
        """Ask upstream for a proof of possession of the partial, unless it sent those bytes.

        If the proof fails, the partial stays for the upstream that sent it. If the partial is known
        to come from another upstream, it stays too, and the fetch resumes from a copy: an upstream
        that has the beginning could spoil it with a wrong end. For a partial that is the whole blob
        this is the only question, so it is always asked. Raises BlobUnknown, NoRoom, StorageError.
        """
        left = self.blob
        if self._has_it or left is None:
            self._has_it = not self.isolated
            return
        try:
            await self._prove(left, repository)
        except UpstreamFailure as failure:  # decides nothing: the whole blob is fetched
            words = "the %d bytes of an earlier fetch of %s are not used: %s"
            _log.debug(words, left.written, self._digest, failure.message)
            (await self._give_back()).close()
            return
        self._has_it = True
        if left.written and self._left_by() not in (None, self._upstream):
            await self._copy(left)

    async def _prove(self, left: PartialBlob, repository: Repository) -> None:
        whole = left.written > 0 and left.proven
        if whole or (left.written and self._left_by() != self._upstream):
            asked = self._source, repository, self._digest, left.reader, left.written
            await self._possession.show(*asked, whole=whole)

    def _left_by(self) -> str | None:
        return self._possession.left_by(self._digest)

    async def _give_back(self) -> PartialLease:
        """Keep the partial for the upstream that sent it, and go on isolated from it."""
        before = self._lease
        await before.keep()
        self._lease = self._leased(isolated=True)
        return before

    async def _copy(self, left: PartialBlob) -> None:
        length, before = left.written, await self._give_back()
        try:
            await self._reserve(length)
            copy = await self.open()
            await copy.copy(left.reader, length)
        finally:
            before.close()

    async def open(self) -> PartialBlob:
        """Return the partial, a new one if there is none yet; raises NoRoom, StorageError."""
        return await self._lease.open()

    # Room

    def fits(self, size: int) -> bool:
        """Whether a blob of `size` bytes fits, if everything that can be evicted is evicted."""
        return self._lease.fits(size)

    async def grow(self, come: int, size: int | None) -> None:
        """Reserve room for `come` received bytes and for some more; raises NoRoom, StorageError.

        `size` is that of the whole blob, if known.
        """
        if come <= self.reserved:
            return
        wanted = self._allowance.wanted(come, size)
        more = wanted - self.reserved
        spares = self._allowance.sparing(self._upstream, more, come, size)
        gains = self._upstream if spares else None
        try:
            await self._reserve(wanted, gains=gains)
        except NoRoom:
            if wanted == come:
                raise
            await self._reserve(come, gains=gains)

    async def _reserve(self, size: int, *, gains: str | None = None) -> None:
        more = max(0, size - self.reserved)
        self._allowance.add(self._upstream, more)
        try:
            await self._lease.reserve(size, gains=gains)
        finally:
            self._allowance.add(self._upstream, -more)

    # The end

    async def commit(self, repository: Repository) -> Entry:
        """Store the proven blob; raises StorageError, and then the bytes can still be kept."""
        return await self._lease.commit(repository)

    async def discard(self) -> None:
        """Remove the partial, which no fetch may resume; raises StorageError."""
        await self._lease.discard()

    def close(self) -> None:
        """Give up the bytes: the fetch has ended, and no follower is left."""
        self._lease.close()
