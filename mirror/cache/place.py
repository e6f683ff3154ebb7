"""The place of a fetch: the file that it writes, whose bytes are in that, and the room for it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from mirror.cache.allowance import Allowance
from mirror.cache.possession import Possession
from mirror.oci.digest import Digest
from mirror.oci.errors import UpstreamFailure
from mirror.oci.names import Repository
from mirror.store.errors import NoRoomError
from mirror.store.partial import Partial
from mirror.store.store import Store
from mirror.upstream.registry import Registry

_log = logging.getLogger(__name__)


class Place:
    """Where a fetch goes on from what an earlier one left behind, if upstream has that too.

    One that is `apart` leaves alone what there is of the blob, on its way or left behind: it is of
    another upstream. It begins at the beginning, and leaves nothing behind itself. Without
    anything left behind there is no file before there is something to write.
    """

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        digest: Digest,
        store: Store,
        possession: Possession,
        allowance: Allowance,
        *,
        apart: bool,
    ) -> None:
        self.apart = apart
        self.partial: Partial | None = None
        self.promised = 0  # bytes
        self._registry = registry
        self._upstream = repository.upstream
        self._digest = digest
        self._store = store
        self._possession = possession
        self._allowance = allowance
        self._left_behind = 0  # bytes of an earlier fetch, until they are taken over
        self._has_it = False  # upstream has what there is of the partial
        self._useless = False

    def __repr__(self) -> str:
        return f"<Place of {self._digest}: {self.promised} bytes promised, apart: {self.apart}>"

    @property
    def written(self) -> int:
        """How many bytes of the blob are here."""
        return 0 if self.partial is None else self.partial.written

    async def take(self) -> None:
        """Open what an earlier fetch left, if there is anything; raises NoRoomError, OSError."""
        idle = self._store.books.idle_partials
        if self.apart or self._digest not in idle:  # an empty one counts: a gc would unlink it
            return
        self._left_behind = idle[self._digest]
        self._count(await self._store.room.take_partial(self._digest))
        await self._open(self._store.files.partial)

    async def show(self, repository: Repository) -> None:
        """Have upstream show that it has what was left, unless it is known to be its own.

        Where it does not, that stays for the one that it came from. So it does where it is known to
        be another's, and only a copy is gone on from: an upstream that has the beginning could
        spoil it with another end. The whole of a blob needs no other question, so that it is asked
        for anyway. Raises BlobUnknown, NoRoomError, OSError.
        """
        partial = self.partial
        if self._has_it or partial is None:
            self._has_it = not self.apart
            return
        whole = partial.written > 0 and partial.proven
        try:
            if whole or (partial.written and self._left_by() != self._upstream):
                asked = self._registry, repository, self._digest, partial.file, partial.written
                await self._possession.show(*asked, whole=whole)
        except UpstreamFailure as failure:  # it decides nothing: the whole is asked for
            words = "the %d bytes that an earlier fetch left of %s are passed over: %s"
            _log.debug(words, partial.written, self._digest, failure.message)
            self._put_back(partial)
            self._store.close_file(partial.file)
            return
        self._has_it = True
        if not partial.written or self._left_by() in (None, self._upstream):
            return
        self._put_back(partial)
        try:
            await self._copy(partial)
        finally:
            self._store.close_file(partial.file)

    async def open(self) -> Partial:
        """Return the file, a new one if there is none yet; raises NoRoomError, OSError."""
        if self.partial is not None:
            return self.partial
        if self.apart:
            return await self._open(self._store.files.partial_apart)
        # A file that is on its way out has its name until it is unlinked: it is waited for.
        self._count(await self._store.room.take_partial(self._digest))
        partial = await self._open(self._store.files.partial)
        if partial.written:
            words = "the %d bytes that lay there of %s are thrown away: nobody knows whose they are"
            _log.debug(words, partial.written, self._digest)
            await self._store.run(partial.start_over)
        return partial

    async def _open(self, new: Callable[[Digest], Partial]) -> Partial:
        """Open a file, which is this place's even where the fetch is cancelled meanwhile.

        What has begun on a thread is waited for by who is cancelled, too; its result is lost.
        """

        def opened() -> Partial:
            self.partial = partial = new(self._digest)
            return partial

        return await self._store.run_read(opened)

    def _left_by(self) -> str | None:
        return self._possession.left_by(self._digest)

    def _put_back(self, partial: Partial) -> None:
        self._store.books.idle_partials[self._digest] = partial.written
        self.release()
        self.partial, self.apart = None, True

    async def _copy(self, partial: Partial) -> None:
        await self._reserve(partial.written)
        copy = await self.open()
        await self._store.run(copy.take_in, partial.file, partial.written)

    # Room

    def fits(self, size: int) -> bool:
        """Whether a blob of `size` bytes could be kept, if all that can go for it went."""
        return self._store.room.fits(max(0, size - self.promised))

    async def grow(self, come: int, size: int | None) -> None:
        """Have room for what has come, in bytes, and for some more; raises NoRoomError, OSError.

        `size` is the whole blob's, if known.
        """
        if come <= self.promised:
            return
        wanted = self._allowance.wanted(come, size)
        more = wanted - self.promised
        spares = self._allowance.sparing(self._upstream, more, come, size)
        gains = self._upstream if spares else None
        try:
            await self._reserve(wanted, gains=gains)
        except NoRoomError:
            if wanted == come:
                raise
            await self._reserve(come, gains=gains)

    async def _reserve(self, size: int, *, gains: str | None = None) -> None:
        """Have room promised for `size` bytes in all; of many at once each sees the others'."""
        more = max(0, size - self.promised)
        self._allowance.add(self._upstream, more)
        try:
            promised = await self._store.room.reserve(more, gains=gains)
        finally:
            self._allowance.add(self._upstream, -more)
        self._count(promised)

    def _count(self, promised: int) -> None:
        self.promised += promised
        self._allowance.add(self._upstream, promised)

    def release(self) -> None:
        """Give the promise back."""
        self._store.room.release(self.promised)
        self._count(-self.promised)

    # The end

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
        """Leave nothing behind where nobody would go on from it, or where there is nothing."""
        if self.apart or (self.partial is not None and not self.partial.written):
            if self.written:
                words = "%d bytes of %s are thrown away: what is of another upstream stays there"
                _log.debug(words, self.written, self._digest)
            with contextlib.suppress(OSError):  # a start clears it away
                await self.discard()

    def leave(self) -> None:
        """Give the promise back; what was written waits for the next fetch."""
        written = self._left_behind if self.partial is None else self.partial.written
        if written and not self._useless and not self.apart:
            self._store.books.idle_partials[self._digest] = written
            if self._has_it:
                self._possession.left(self._digest, self._upstream)
        self.release()

    def close_file(self) -> None:
        """Let go of the file."""
        if self.partial is not None:
            self._store.close_file(self.partial.file)
            self.partial = None
