"""One fetch: one body from upstream into a partial file, any number of followers behind it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import IO, Protocol

from mirror.cache.download import Download
from mirror.cache.intake import Intake
from mirror.cache.place import Place
from mirror.oci.digest import Digest, Hasher
from mirror.oci.errors import ContentWrong, RegistryError, UpstreamUnavailable
from mirror.oci.names import Repository
from mirror.oci.ranges import Span
from mirror.store.catalogue import Entry
from mirror.store.errors import NoRoomError
from mirror.store.files import Partial
from mirror.store.store import Store
from mirror.upstream.registry import Registry

_log = logging.getLogger(__name__)

TAIL = 16 * 1024  # bytes held back until the digest is proven: nobody completes on less
_PIECE = 128 * 1024  # bytes that a slow client may keep from being freed
_STEP = 64 * 1024 * 1024  # bytes promised at a time where upstream does not say how many come


class Sink(Protocol):
    """Where a body goes."""

    async def data(self, data: bytes | memoryview) -> None:
        """Send bytes."""

    async def file(self, file: IO[bytes], start: int, stop: int) -> None:
        """Send a file's bytes from `start` up to `stop`, without reading them if that can be."""


@dataclass(frozen=True, slots=True)
class Detour:
    """Where a fetch had to give up the disk: the bytes so far, and their hash."""

    written: int
    hasher: Hasher


class Fetch:
    """A blob on its way. Owned by the daemon, never by a request.

    `visible` is how far followers may read, in bytes; `size` the whole, once upstream said so.
    """

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        digest: Digest,
        store: Store,
        place: Place,
    ) -> None:
        self.digest = digest
        self.repository = repository
        self.size: int | None = None
        self.visible = 0
        self.followers = 0
        self.detour: Detour | None = None
        self.failure: RegistryError | None = None
        self._registry = registry
        self._store = store
        self._place = place
        self._also_in: set[Repository] = set()
        self._entry: Entry | None = None
        self._intake: Intake | None = None
        self.proven = False
        self._ended = False
        self._changed: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<Fetch {self.digest}: {self.visible} of {self.size}, {self.followers} followers>"

    # The followers' side

    def serves(self, repository: Repository) -> bool:
        """Whether it fetches from this repository, or for followers who were let in for it."""
        return repository == self.repository or repository in self._also_in

    def join(self, repository: Repository) -> None:
        """Count a follower in, whose repository holds the blob too."""
        self.followers += 1
        self._also_in.add(repository)
        if self._entry is not None:
            self._entry.readers += 1

    def leave(self) -> None:
        """Count a follower out."""
        self.followers -= 1
        if self._entry is not None:
            self._entry.readers -= 1
        self._close_file()

    async def started(self) -> None:
        """Wait until an answer may begin: there is a size and more than the tail to send.

        What is smaller is proven first, and a detour has its own beginning. Raises RegistryError.
        """
        while not (self.proven or self.detour or self._begun):
            self._raise_failure()
            await self._change()

    async def sized(self) -> int | None:
        """Wait until the size is known, or nothing more comes; returns it."""
        while self.size is None and not self._ended:
            await self._change()
        return self.size

    @property
    def _begun(self) -> bool:
        """Whether an answer may begin with what is known of the size."""
        return (self.size or 0) > TAIL

    async def past(self, position: int) -> int:
        """Wait for bytes behind `position` and return how far one may read.

        Returns `position` itself where the fetch took a detour there. Raises RegistryError.
        """
        while self.visible <= position:
            self._raise_failure()
            if self.detour is not None:
                return position
            await self._change()
        return self.visible

    async def send(self, position: int, stop: int, sink: Sink) -> int:
        """Send visible bytes from `position` on, to `stop` or less far; returns where they ended.

        The newest come from memory, so that a client never waits for the disk; the file has all
        that one at its own pace is behind with.
        """
        piece = None if self._intake is None else self._intake.held(position)
        if piece is not None:
            piece = piece[: min(stop - position, _PIECE)]
            await sink.data(piece)
            return position + len(piece)
        partial = self._place.partial
        if partial is None:
            raise UpstreamUnavailable("the fetch has no file any more")
        stop = min(stop, partial.written)
        await sink.file(partial.file, position, stop)
        return stop

    async def _change(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._changed.add(future)
        try:
            await future
        finally:
            self._changed.discard(future)

    def _raise_failure(self) -> None:
        if self.failure is not None:
            # A fresh one each time: an exception shared by many raisers grows with each.
            raise self.failure.again()

    # The fetch's side

    async def run(self) -> None:
        """Fetch, prove, publish. All that goes wrong ends in `failure` or `detour`."""
        try:
            await self._fetch()
        except (NoRoomError, OSError) as error:
            self._give_up_disk(error)
        except asyncio.CancelledError:
            self.failure = UpstreamUnavailable("the fetch was stopped")
            raise
        except RegistryError as failure:
            self.failure = failure
            if isinstance(failure, ContentWrong):
                await self._place.discard()
        finally:
            try:
                if self._entry is None:
                    await self._place.abandon()
            finally:
                self._end()

    async def _fetch(self) -> None:
        partial = await self._place.take()
        if partial.written and partial.proven:
            self._reveal(partial.written)
        else:
            await self._receive_or_start_over(partial)
        await self._publish(partial)

    async def _receive_or_start_over(self, partial: Partial) -> None:
        """Begin anew, once, where what came fits no blob and no follower has seen any of it.

        What a host calls compressed, though it was asked not to compress, is unpacked then, as
        clients do it.
        """
        try:
            await self._receive(partial)
        except ContentWrong:
            if self.visible:
                raise
            await self._store.run(partial.start_over)
            await self._receive(partial, unpack=True)

    async def _receive(self, partial: Partial, *, unpack: bool = False) -> None:
        """Take the rest in; the followers have all of it before the disk does."""
        told = self.size if self._begun else None  # followers' answers have begun with it
        async with (
            Download(
                self._registry,
                self.repository,
                self.digest,
                partial.written,
                size=told,
                unpack=unpack,
            ) as download,
            Intake(self._store, partial) as intake,
        ):
            self._intake = intake
            size = download.size
            if size is not None and intake.received >= max(size, 1):
                raise ContentWrong("what an earlier fetch left behind is not part of the blob")
            self.size = size  # known to a detour, too, so that none of its clients need ask
            await self._place.reserve(intake.received + _STEP if size is None else size)
            self._grow(intake.received, size)
            while data := await download.read():
                if download.position > self._place.promised:
                    await self._place.reserve(download.position + _STEP)
                intake.add(data)
                self._grow(intake.received, download.size)
                await intake.keep_up()
            if not await intake.proven():
                raise ContentWrong(f"upstream sent bytes that are not {self.digest}")
            self._reveal(intake.received)

    async def _publish(self, partial: Partial) -> None:
        """Make the file last; by now the followers have the end, and need not wait for it.

        What another upstream's fetch has published meanwhile stays: it has its readers.
        """
        kept = self._store.catalogue.get(self.digest)
        self._entry = kept or await self._store.publish(partial, self.repository)
        self._entry.readers += self.followers
        if self._entry.media_type is None:  # a repository that has this as a blob has no manifest
            for repository in (self.repository, *self._also_in):
                self._store.books.link(self.digest, repository)
        if kept is not None:
            await self._place.discard()
        await self._place.published()

    def _grow(self, received: int, size: int | None) -> None:
        self.size = size
        if size is not None:  # else the end cannot be told from the middle: all is held back
            self.visible = max(self.visible, min(received, size - TAIL))
        self._announce()

    def _reveal(self, size: int) -> None:
        """Let followers have the end: the digest is proven."""
        self.size = self.visible = size
        self.proven = True
        self._announce()

    def _give_up_disk(self, error: Exception) -> None:
        """Send the followers to upstream: the bytes so far are good, no more will come."""
        self._store.failures += 1
        _log.error("cannot keep %s, passing it through: %s", self.digest, error)
        partial = self._place.partial
        if partial is None:
            self.detour = Detour(0, self.digest.hasher())
        elif not self.proven:
            self._take_detour(partial)

    def _take_detour(self, partial: Partial) -> None:
        """Go on behind what was received, all of which is hashed; unless that was the end."""
        if partial.hashed == self.size:
            if partial.proven:
                self._reveal(partial.hashed)
            else:
                self.failure = ContentWrong(f"upstream sent bytes that are not {self.digest}")
        else:
            self.detour = Detour(partial.hashed, partial.hasher())
            self.visible = partial.hashed if self.size is not None else 0

    def _end(self) -> None:
        if self._entry is None:
            self._place.leave()
        self._place.release()
        self._ended = True
        self._announce()
        self._close_file()

    def _close_file(self) -> None:
        if self._ended and not self.followers:
            self._place.close_file()

    def _announce(self) -> None:
        for future in self._changed:
            if not future.done():
                future.set_result(None)
        self._changed.clear()


async def follow(fetch: Fetch, span: Span, sink: Sink) -> int:
    """Send what the fetch makes visible of `span`; returns where it had to stop.

    That is the span's end, or where the fetch took a detour. Raises RegistryError, and whatever
    the sink raises when its client has gone.
    """
    position = span.start
    while position < span.stop:
        end = min(await fetch.past(position), span.stop)
        if end <= position:
            break
        position = await fetch.send(position, end, sink)
    return position
