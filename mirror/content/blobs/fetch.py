"""A fetch: one body from upstream into a partial, with any number of followers."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

from mirror.content.blobs.answer_timeout import AnswerTimeout
from mirror.content.blobs.download import Download
from mirror.content.blobs.fetch_partial import FetchPartial
from mirror.content.blobs.ingest import Ingest
from mirror.content.blobs.progress import Bypass, FetchProgress, Pace
from mirror.content.blobs.sinks import Sink
from mirror.content.memory_cache import MemoryCache
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    ContentWrong,
    HostUnreachable,
    RegistryError,
    TooManyRequests,
    UpstreamDown,
    UpstreamUnavailable,
)
from mirror.oci.names import Repository
from mirror.storage.blobs.protocol import PartialBlob
from mirror.storage.entry import Entry
from mirror.storage.errors import NoRoom, StorageError
from mirror.storage.store import Store
from mirror.storage.stored_blob import Hold
from mirror.upstream.blob_source import BlobSource
from mirror.util.uncancelled import run_to_completion

_log = logging.getLogger(__name__)

_PIECE = 128 * 1024  # bytes that a slow client may keep from being freed
_ANSWER_WITHIN = 1.0  # seconds for an answer in one repository where another has shown the blob
# Failures that concern all repositories of an upstream.
_FOR_ALL = (TooManyRequests, HostUnreachable, UpstreamDown)


class Fetch(FetchProgress):
    """A blob under way. Owned by the daemon, never by a request.

    Upstream is asked in one repository at a time. A refusal there is the answer for the followers
    in that repository; for those in another, which was shown to have the blob, the fetch goes on.
    """

    def __init__(
        self,
        source: BlobSource,
        repository: Repository,
        digest: Digest,
        store: Store,
        partial: FetchPartial,
        memory: MemoryCache,
    ) -> None:
        super().__init__(repository, digest)
        self._source = source
        self._store = store
        self._partial = partial
        self._memory = memory
        self._small: bytearray | None = bytearray()  # all received bytes, while they are few
        self._answer = AnswerTimeout()
        self._stored: Entry | None = None
        self._hold: Hold | None = None
        self._ingest: Ingest | None = None

    # The followers' side

    def join(self, repository: Repository, proof: int | None = None) -> None:
        """Add a follower, which the fetch `admits`."""
        self._let_in(repository, proof)
        self._source.leases.take()  # the follower may go on without the fetch, past the disk
        self._hold_stored()
        if repository != self.repository:
            self._hurry()

    def leave(self, repository: Repository) -> None:
        """Remove a follower."""
        self._let_out(repository)
        self._source.leases.give()
        self._hold_stored()
        self._close_partial()

    def _hold_stored(self) -> None:
        """Keep the stored blob from eviction for as long as it has followers."""
        if self._stored is not None and self.followers and self._hold is None:
            self._hold = self._store.hold(self._stored)
        elif self._hold is not None and not self.followers:
            self._hold.release()
            self._hold = None

    async def send(self, position: int, stop: int, sink: Sink) -> int:
        """Send visible bytes from `position` on, up to `stop` at most; returns where they ended.

        The newest come from memory, so that a client never waits for the disk; a slower client gets
        its bytes from the file.
        """
        piece = None if self._ingest is None else self._ingest.held(position)
        if piece is not None:
            piece = piece[: min(stop - position, _PIECE)]
            await sink.data(piece)
            return position + len(piece)
        partial = self._partial.blob
        if partial is None:
            raise UpstreamUnavailable("the fetch has no file any more")
        stop = min(stop, partial.written)
        await sink.blob(partial.reader, position, stop)
        return stop

    # The fetch's side

    async def run(self) -> None:
        """Fetch, prove, publish. Every failure ends in `failure` or `bypass`."""
        try:
            async with self._partial:
                await self._fetch()
        finally:
            self._end()

    async def _fetch(self) -> None:
        try:
            await self._receive_somewhere()
            await run_to_completion(self._publish())
        except StorageError as error:
            self._give_up_disk(error)
        except asyncio.CancelledError:
            self.stopped()
            raise
        except RegistryError as failure:
            self.failure = failure.again()
            _log.debug("%s is not fetched: %s", self.digest, failure.message)
            if isinstance(failure, ContentWrong):
                self._tell_of_waste(failure.message)
                await self._partial.discard()

    async def _receive_somewhere(self) -> None:
        """Receive the whole blob from the first repository that serves it."""
        await self._partial.resume()
        while True:
            try:
                return await self._receive_all()
            except RegistryError as failure:
                if isinstance(failure, _FOR_ALL) or (
                    isinstance(failure, ContentWrong) and self.visible
                ):
                    raise
                self._refusals[self.repository] = failure.again()
                if not self._goes_on():
                    raise
                if isinstance(failure, ContentWrong):
                    await self._start_over(failure)

    def _goes_on(self) -> bool:
        """Ask in another repository, if one has followers and was shown to have the blob."""
        others = [each for each in self._members if self._of[each]]
        if others:
            self.repository = others[0]
            self.size = self.size if self.visible else None
        self._changes.notify()
        return bool(others)

    async def _start_over(self, failure: ContentWrong) -> None:
        """Throw the received bytes away; raises StorageError."""
        if (blob := self._partial.blob) is not None:
            self._tell_of_waste(failure.message)
            await blob.start_over()

    async def _receive_all(self) -> None:
        """Start over, once, if the received bytes fit no blob and none of them was visible yet.

        A body that a host calls compressed, though it was asked not to compress, is unpacked then,
        as clients do it.
        """
        async with self._answer.awaited():
            self._hurry()
            await self._partial.show(self.repository)
        blob = self._partial.blob
        if blob is not None and blob.written and blob.proven:
            self._reveal(blob.written)
            return
        try:
            await self._receive()
        except ContentWrong as failure:
            if self.visible:
                raise
            await self._start_over(failure)
            await self._receive(unpack=True)

    async def _receive(self, *, unpack: bool = False) -> None:
        """Receive the rest; the followers have all of it before the disk does."""
        announced_size = self.size if self._begun else None  # followers' answers have begun with it
        asked = self._source, self.repository, self.digest, self._partial.written
        async with AsyncExitStack() as stack:
            download = Download(*asked, size=announced_size, unpack=unpack)
            async with self._answer.awaited():
                self._hurry()
                await stack.enter_async_context(download)
            size, begun = download.size, self._partial.written
            if size is not None and begun >= max(size, 1):
                raise ContentWrong("the partial of an earlier fetch is not part of the blob")
            self.size = size  # known to a bypass, too, so that none of its clients need ask
            if size is not None and not self._partial.fits(size):
                raise NoRoom(f"{size} bytes do not fit beside the content in use")
            self._ingest = await stack.enter_async_context(Ingest(await self._partial.open()))
            await self._take_in(download, self._ingest)

    async def _take_in(self, download: Download, ingest: Ingest) -> None:
        self._small = None if ingest.received else bytearray()
        self._grow(ingest.received, download.size)
        pace = self.pace = Pace(asyncio.get_running_loop().time())
        while data := await download.read():
            pace.received += len(data)
            await self._partial.grow(download.position, download.size)
            ingest.add(data)
            self._remember(data)
            self._grow(ingest.received, download.size)
            await ingest.keep_up()
        if not await ingest.proven():
            raise ContentWrong(f"upstream sent bytes that are not {self.digest}")
        if self._small is not None:  # serves the next client, even if the disk fails
            self._memory.put(self.digest, bytes(self._small))
        self._reveal(ingest.received)

    def _remember(self, data: bytes) -> None:
        if self._small is not None:
            self._small += data
            if len(self._small) > self._memory.largest:
                self._small = None

    def _hurry(self) -> None:
        """Bound the running question, if followers in another repository wait for it.

        It is not bounded in a repository that was shown to have the blob: a registry that is slow
        with all of them would be asked in turns, and no answer awaited.
        """
        others = any(self._of[each] for each in self._members if each != self.repository)
        if others and self.repository not in self._shown:
            self._answer.bound(_ANSWER_WITHIN)

    async def _publish(self) -> None:
        """Publish the blob and link it; the followers have all bytes by now, and need not wait.

        A blob that another upstream's fetch has published meanwhile stays: it has readers. The
        partial that another upstream left is of no use any more.
        """
        kept = self._store.catalog.get(self.digest)
        self._stored = kept or await self._partial.commit(self.repository)
        self._hold_stored()
        if self._stored.media_type is None:  # a repository that has this as a blob has no manifest
            for repository in self._members:
                self._store.link(self.digest, repository)
        if kept is not None:
            self._tell_of_waste("another upstream's fetch has brought it meanwhile")
            await self._partial.discard()
        if self._partial.isolated:
            await self._store.leftovers.remove_partials([self.digest])

    def _give_up_disk(self, error: StorageError) -> None:
        """Send the followers to upstream: the bytes so far are right, no more will be written."""
        self._store.not_kept(str(self.digest), error)
        blob = self._partial.blob
        if self.proven:
            return
        if blob is None:
            self.bypass = Bypass(0, self.digest.hasher())
        else:
            self._bypass_disk(blob)

    def _bypass_disk(self, partial: PartialBlob) -> None:
        """Set the bypass behind the received bytes, all of them hashed, unless these are all."""
        if partial.hashed == self.size:
            if partial.proven:
                self._reveal(partial.hashed)
            else:
                self.failure = ContentWrong(f"upstream sent bytes that are not {self.digest}")
        else:
            self.bypass = Bypass(partial.hashed, partial.hasher())
            self.visible = partial.hashed if self.size is not None else 0

    def _tell_of_waste(self, reason: str) -> None:
        """Log why fetched bytes are thrown away."""
        words = "%d bytes that were fetched of %s are thrown away: %s"
        _log.debug(words, self._partial.written, self.digest, reason)

    def _end(self) -> None:
        """Record the end; no follower waits any longer, even after an unexpected fault."""
        self.ended = True
        if self.proven or self.bypass is not None:
            self._changes.notify()
        else:
            self.stopped()
        self._close_partial()

    def _close_partial(self) -> None:
        if self.ended and not self.followers:
            self._partial.close()
