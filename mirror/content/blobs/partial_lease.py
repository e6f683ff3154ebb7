"""The place of a fetch: its partial, the upstream that sent those bytes, and the reservation."""

from __future__ import annotations

import contextlib
import logging

from mirror.content.blobs.allowance import Allowance
from mirror.content.blobs.possession import Possession
from mirror.oci.digest import Digest
from mirror.oci.errors import UpstreamFailure
from mirror.oci.names import Repository
from mirror.storage.blobs.protocol import PartialBlob
from mirror.storage.errors import NoRoom, StorageError
from mirror.storage.store import Store
from mirror.upstream.blob_source import BlobSource

_log = logging.getLogger(__name__)


class PartialLease:
    """The partial of one fetch; an earlier one is resumed if upstream has its bytes too.

    A place that is `apart` does not touch the blob's partial, which belongs to another upstream:
    the fetch starts at byte 0 and leaves no partial behind. Without an earlier partial, no file is
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
        apart: bool,
    ) -> None:
        self.apart = apart
        self.partial: PartialBlob | None = None
        self.promised = 0  # bytes
        self._source = source
        self._upstream = repository.upstream
        self._digest = digest
        self._store = store
        self._possession = possession
        self._allowance = allowance
        self._left_behind = 0  # bytes of an earlier fetch, until they are taken over
        self._has_it = False  # upstream has the bytes of the partial
        self._useless = False

    def __repr__(self) -> str:
        return (
            f"<PartialLease of {self._digest}: {self.promised} bytes promised, apart: {self.apart}>"
        )

    @property
    def written(self) -> int:
        """Bytes of the blob in the file."""
        return 0 if self.partial is None else self.partial.written

    async def take(self) -> None:
        """Open the partial of an earlier fetch, if there is one; raises NoRoom, StorageError."""
        idle = self._store.accounting.idle_partials
        if self.apart or self._digest not in idle:  # an empty one counts: a gc would unlink it
            return
        self._left_behind = idle[self._digest]
        self._count(await self._store.quota.take_partial(self._digest))
        await self._open()

    async def show(self, repository: Repository) -> None:
        """Ask upstream for a proof of possession of the partial, unless it sent those bytes.

        If the proof fails, the partial stays for the upstream that sent it. If the partial is known
        to come from another upstream, it stays too, and the fetch resumes from a copy: an upstream
        that has the beginning could spoil it with a wrong end. For a partial that is the whole blob
        this is the only question, so it is always asked. Raises BlobUnknown, NoRoom, StorageError.
        """
        partial = self.partial
        if self._has_it or partial is None:
            self._has_it = not self.apart
            return
        whole = partial.written > 0 and partial.proven
        try:
            if whole or (partial.written and self._left_by() != self._upstream):
                asked = self._source, repository, self._digest, partial.reader, partial.written
                await self._possession.show(*asked, whole=whole)
        except UpstreamFailure as failure:  # decides nothing: the whole blob is fetched
            words = "the %d bytes of an earlier fetch of %s are not used: %s"
            _log.debug(words, partial.written, self._digest, failure.message)
            self._put_back(partial)
            partial.close()
            return
        self._has_it = True
        if not partial.written or self._left_by() in (None, self._upstream):
            return
        self._put_back(partial)
        try:
            await self._copy(partial)
        finally:
            partial.close()

    async def open(self) -> PartialBlob:
        """Return the file, a new one if there is none yet; raises NoRoom, StorageError."""
        if self.partial is not None:
            return self.partial
        if self.apart:
            return await self._open(isolated=True)
        # A file that is being removed has its name until it is unlinked: wait for that.
        self._count(await self._store.quota.take_partial(self._digest))
        partial = await self._open()
        if partial.written:
            words = "the %d bytes of an earlier fetch of %s are removed: their upstream is unknown"
            _log.debug(words, partial.written, self._digest)
            await partial.start_over()
        return partial

    async def _open(self, *, isolated: bool = False) -> PartialBlob:
        self.partial = await self._store.blobs.partial(self._digest, isolated=isolated)
        return self.partial

    def _left_by(self) -> str | None:
        return self._possession.left_by(self._digest)

    def _put_back(self, partial: PartialBlob) -> None:
        self._store.accounting.idle_partials[self._digest] = partial.written
        self.release()
        self.partial, self.apart = None, True

    async def _copy(self, partial: PartialBlob) -> None:
        await self._reserve(partial.written)
        copy = await self.open()
        await copy.copy(partial.reader, partial.written)

    # Reservations

    def fits(self, size: int) -> bool:
        """Whether a blob of `size` bytes fits, if everything that can be evicted is evicted."""
        return self._store.quota.fits(max(0, size - self.promised))

    async def grow(self, come: int, size: int | None) -> None:
        """Reserve room for `come` received bytes and for some more; raises NoRoom, StorageError.

        `size` is that of the whole blob, if known.
        """
        if come <= self.promised:
            return
        wanted = self._allowance.wanted(come, size)
        more = wanted - self.promised
        spares = self._allowance.sparing(self._upstream, more, come, size)
        gains = self._upstream if spares else None
        try:
            await self._reserve(wanted, gains=gains)
        except NoRoom:
            if wanted == come:
                raise
            await self._reserve(come, gains=gains)

    async def _reserve(self, size: int, *, gains: str | None = None) -> None:
        """Reserve room for `size` bytes in all; concurrent reservations see each other."""
        more = max(0, size - self.promised)
        self._allowance.add(self._upstream, more)
        try:
            promised = await self._store.quota.reserve(more, gains=gains)
        finally:
            self._allowance.add(self._upstream, -more)
        self._count(promised)

    def _count(self, promised: int) -> None:
        self.promised += promised
        self._allowance.add(self._upstream, promised)

    def release(self) -> None:
        """Give the reservation back."""
        self._store.quota.release(self.promised)
        self._count(-self.promised)

    # The end

    async def discard(self) -> None:
        """Unlink a file that no fetch can resume; raises StorageError."""
        self._useless = True
        if self.partial is not None:
            await self.partial.remove()

    async def published(self) -> None:
        """Give the reservation back, and remove another upstream's partial: the blob is stored now.

        Raises StorageError.
        """
        self.release()
        if self.apart:
            await self._store.quota.remove_partials([self._digest])

    async def abandon(self) -> None:
        """Remove a file that is empty, or that no later fetch would resume."""
        if self.apart or (self.partial is not None and not self.partial.written):
            if self.written:
                words = "%d bytes of %s are removed: the partial of another upstream stays"
                _log.debug(words, self.written, self._digest)
            with contextlib.suppress(StorageError):  # the next start removes it
                await self.discard()

    def leave(self) -> None:
        """Give the reservation back; the written bytes stay for the next fetch."""
        written = self._left_behind if self.partial is None else self.partial.written
        if written and not self._useless and not self.apart:
            self._store.accounting.idle_partials[self._digest] = written
            if self._has_it:
                self._possession.left(self._digest, self._upstream)
        self.release()

    def close_file(self) -> None:
        """Close the file."""
        if self.partial is not None:
            self.partial.close()
            self.partial = None
