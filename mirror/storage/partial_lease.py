"""The lease of a partial: the right to write one blob, and the room that is reserved for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.accounting import Accounting
from mirror.storage.blobs.protocol import BlobStore, PartialBlob
from mirror.storage.entry import Entry
from mirror.storage.errors import StorageError
from mirror.storage.quota import Quota
from mirror.util.uncancelled import run_to_completion

_log = logging.getLogger(__name__)


class PartialLease:
    """A partial and its room, held by one writer. It ends once: by commit, keep or discard.

    As an async context manager it ends by `keep`, unless another end came before. The partial of an
    `isolated` lease is new, and shared with no other lease; it is never kept. Its bytes can be read
    after the end, until `close`. `reserving` is called with the bytes of each reservation, and with
    the negative sum of them at the end.
    """

    def __init__(
        self,
        digest: Digest,
        blobs: BlobStore,
        accounting: Accounting,
        quota: Quota,
        *,
        isolated: bool,
        reserving: Callable[[int], None],
    ) -> None:
        self.isolated = isolated
        self.partial: PartialBlob | None = None
        self.reserved = 0  # bytes
        self.ended = False
        self._digest = digest
        self._blobs = blobs
        self._accounting = accounting
        self._quota = quota
        self._reserving = reserving
        self._left_behind = 0  # bytes of an earlier lease, until they are taken over

    def __repr__(self) -> str:
        kind = "isolated " if self.isolated else ""
        return f"<PartialLease, {kind}of {self._digest}: {self.reserved} bytes reserved>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.ended:
            await self.keep()

    @property
    def written(self) -> int:
        """Bytes of the blob in the partial."""
        return 0 if self.partial is None else self.partial.written

    # Writing

    async def resume(self) -> None:
        """Open the partial of an earlier lease, if there is one; raises NoRoom, StorageError."""
        idle = self._accounting.idle_partials
        if self.isolated or self._digest not in idle:  # an empty one counts: a gc would remove it
            return
        self._left_behind = idle[self._digest]
        self._count(await self._quota.take_partial(self._digest))
        self.partial = await self._blobs.partial(self._digest)

    async def open(self) -> PartialBlob:
        """Return the partial, a new one if there is none yet; raises NoRoom, StorageError."""
        if self.partial is not None:
            return self.partial
        if not self.isolated:
            # A partial that is being removed has its name until that is done: wait for it.
            self._count(await self._quota.take_partial(self._digest))
        self.partial = await self._blobs.partial(self._digest, isolated=self.isolated)
        if self.partial.written:
            words = "the %d bytes of an earlier fetch of %s are removed: their upstream is unknown"
            _log.debug(words, self.partial.written, self._digest)
            await self.partial.start_over()
        return self.partial

    def fits(self, size: int) -> bool:
        """Whether a blob of `size` bytes fits, if everything that can be evicted is evicted."""
        return self._quota.fits(max(0, size - self.reserved))

    async def reserve(self, size: int, *, gains: str | None = None) -> None:
        """Reserve room for `size` bytes in all; see `Quota.reserve`. Raises NoRoom, StorageError.

        Concurrent reservations see each other.
        """
        self._count(await self._quota.reserve(max(0, size - self.reserved), gains=gains))

    def _count(self, reserved: int) -> None:
        self.reserved += reserved
        self._reserving(reserved)

    def rest(self) -> None:
        """Close the written partial until the lease ends; it cannot be read meanwhile."""
        if self.partial is not None:
            self.partial.close()

    # The three ends

    async def commit(self, repository: Repository) -> Entry:
        """Store the proven partial as a blob of a repository; never cancelled midway.

        Raises StorageError, and then the lease has not ended.
        """
        return await run_to_completion(self._commit(self._to_be_ended(), repository))

    async def _commit(self, partial: PartialBlob | None, repository: Repository) -> Entry:
        if partial is None:
            raise RuntimeError("there is no partial to commit")
        async with self._quota.naming(self._digest):
            changed_at = await partial.commit()
            entry = self._accounting.enter(self._digest, partial.written, None, changed_at)
            self._accounting.link(self._digest, repository)
            self._end()  # at once: counting both, even for a moment, could evict other content
        return entry

    async def keep(self) -> int:
        """Leave the written bytes for a later lease; returns their number.

        A partial that is isolated, or has no bytes, is removed.
        """
        partial = self._to_be_ended()
        kept = 0 if self.isolated else self._left_behind if partial is None else partial.written
        try:
            if partial is not None and not kept:
                self._tell_of_removal()
                with suppress(StorageError):  # the next start removes it
                    await run_to_completion(partial.remove())
        finally:
            if kept:
                self._accounting.idle_partials[self._digest] = kept
            self._end()
        return kept

    def _tell_of_removal(self) -> None:
        if self.written:
            words = "%d bytes of %s are removed: the partial of another upstream stays"
            _log.debug(words, self.written, self._digest)

    async def discard(self) -> None:
        """Remove the partial; raises StorageError, after which the lease has ended all the same."""
        partial = self._to_be_ended()
        try:
            if partial is not None:
                await run_to_completion(partial.remove())
        finally:
            self._end()

    def _to_be_ended(self) -> PartialBlob | None:
        if self.ended:
            raise RuntimeError(f"{self!r} has ended")
        return self.partial

    def _end(self) -> None:
        self.ended = True
        self._quota.release(self.reserved)
        self._count(-self.reserved)

    def close(self) -> None:
        """Give up the bytes of an ended lease: no reader is left."""
        if self.partial is not None:
            self.partial.close()
            self.partial = None
