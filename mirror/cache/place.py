"""The place of a fetch: the file that it writes, whose bytes are in that, and the room for it."""

from __future__ import annotations

import contextlib

from mirror.cache.possession import Possession
from mirror.oci.digest import Digest
from mirror.oci.errors import UpstreamFailure
from mirror.oci.names import Repository
from mirror.store.files import Partial
from mirror.store.store import Store
from mirror.upstream.registry import Registry


class Place:
    """Where a fetch goes on from what an earlier one left behind, if upstream has that too.

    One that is `apart` leaves alone what there is of the blob, on its way or left behind: it is of
    another upstream. It begins at the beginning, and leaves nothing behind itself.
    """

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        digest: Digest,
        store: Store,
        possession: Possession,
        *,
        apart: bool,
    ) -> None:
        self.apart = apart
        self.partial: Partial | None = None
        self.promised = 0  # bytes
        self._registry = registry
        self._repository = repository
        self._digest = digest
        self._store = store
        self._possession = possession
        self._left_behind = 0  # bytes of an earlier fetch, until they are taken over
        self._has_it = False  # upstream has what there is of the partial
        self._useless = False

    def __repr__(self) -> str:
        return f"<Place of {self._digest}: {self.promised} bytes promised, apart: {self.apart}>"

    async def take(self) -> Partial:
        """Open the file; raises BlobUnknown, NoRoomError, OSError."""
        partial = None if self.apart else await self._take_over()
        if partial is None:
            partial = await self._store.run(self._store.files.partial_apart, self._digest)
            self.partial = partial
        return partial

    async def _take_over(self) -> Partial | None:
        """Go on from what an earlier fetch left, if there is anything.

        None where upstream does not show that it has that: it stays for the one that it came from.
        So it does where it is known to be another's, and only a copy is gone on from: an upstream
        that has the beginning could spoil it with another end.
        """
        self._left_behind = self._store.books.idle_partials.get(self._digest, 0)
        self.promised = await self._store.room.take_partial(self._digest)
        partial = await self._store.run(self._store.files.partial, self._digest)
        self.partial = partial
        try:
            await self._show(partial)
        except UpstreamFailure:  # a proof that fails decides nothing: the whole is asked for
            self._put_back(partial)
            self._store.close_file(partial.file)
            return None
        if not partial.written or self._left_by() in (None, self._repository.upstream):
            return partial
        self._put_back(partial)
        try:
            return await self._copy(partial)
        finally:
            self._store.close_file(partial.file)

    def _left_by(self) -> str | None:
        return self._possession.left_by(self._digest)

    def _put_back(self, partial: Partial) -> None:
        self._store.books.idle_partials[self._digest] = partial.written
        self.release()
        self.partial, self.apart = None, True

    async def _copy(self, partial: Partial) -> Partial:
        await self.reserve(partial.written)
        copy = await self._store.run(self._store.files.partial_apart, self._digest)
        self.partial = copy
        await self._store.run(copy.take_in, partial.file, partial.written)
        return copy

    async def _show(self, partial: Partial) -> None:
        """Have upstream show that it has what was left, unless it is known to be its own.

        The whole of a blob needs no other question, so that it is asked for anyway. Raises
        UpstreamFailure where it does not show it.
        """
        whole = partial.written > 0 and partial.proven
        own = self._left_by() == self._repository.upstream
        if whole or (partial.written and not own):
            await self._possession.show(
                self._registry,
                self._repository,
                self._digest,
                partial.file,
                partial.written,
                whole=whole,
            )
        self._has_it = True

    async def reserve(self, size: int) -> None:
        """Have room promised for `size` bytes in all; raises NoRoomError, OSError."""
        self.promised += await self._store.room.reserve(max(0, size - self.promised))

    def release(self) -> None:
        """Give the promise back."""
        self._store.room.release(self.promised)
        self.promised = 0

    async def discard(self) -> None:
        """Unlink what is of no use to anyone; raises OSError."""
        self._useless = True
        if self.partial is not None:
            await self._store.run(self.partial.unlink)

    async def published(self) -> None:
        """Give the promise back, and what another upstream left of the blob, which is here now.

        Raises OSError.
        """
        self.release()
        if self.apart:
            await self._store.room.remove_partials([self._digest])

    async def abandon(self) -> None:
        """Leave nothing behind where nobody would go on from it."""
        if self.apart:
            with contextlib.suppress(OSError):  # a start clears it away
                await self.discard()

    def leave(self) -> None:
        """Give the promise back; what was written waits for the next fetch."""
        written = self._left_behind if self.partial is None else self.partial.written
        if not self._useless and not self.apart and (self.partial or written):
            self._store.books.idle_partials[self._digest] = written
            if self._has_it:
                self._possession.left(self._digest, self._repository.upstream)
        self.release()

    def close_file(self) -> None:
        """Let go of the file."""
        if self.partial is not None:
            self._store.close_file(self.partial.file)
            self.partial = None
