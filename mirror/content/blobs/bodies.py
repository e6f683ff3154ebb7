"""Bodies of blobs: from a stored file, from a fetch under way, or passed through."""

from __future__ import annotations

import logging
from typing import IO, Protocol

from mirror.content.blobs.fetch import Fetch
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.content.blobs.followers import Sink, follow, while_there
from mirror.content.blobs.passthrough import PassThroughBody
from mirror.content.blobs.progress import Detour
from mirror.content.outcome import Outcome
from mirror.oci.errors import RegistryError
from mirror.oci.ranges import Span
from mirror.storage.catalog import Entry
from mirror.storage.errors import is_of_disk
from mirror.storage.store import Store

_log = logging.getLogger(__name__)

_FAR_AHEAD = 32 * 1024 * 1024  # bytes; a range further ahead of the fetch is not waited for


class Body(Protocol):
    """A blob to be sent, of `size` bytes; it must be closed."""

    size: int
    outcome: Outcome
    collapsed: bool

    async def send(self, span: Span, sink: Sink) -> None:
        """Send a span of the blob; raises RegistryError where it cannot be completed."""

    def close(self) -> None:
        """Release the body."""


class StoredBody:
    """A stored blob, safe from eviction until it is closed."""

    outcome = Outcome.HIT
    collapsed = False

    def __init__(self, store: Store, entry: Entry, file: IO[bytes]) -> None:
        self.size = entry.size
        self.file = file
        self.entry = entry
        self._store = store
        entry.readers += 1

    async def send(self, span: Span, sink: Sink) -> None:
        """Hand the file to the sink; after a failure midway it is proven before its next use."""
        try:
            await sink.file(self.file, span.start, span.stop)
        except (OSError, RegistryError) as error:
            if not isinstance(error, OSError) or is_of_disk(error):
                self.entry.changed_at = None
            raise

    def close(self) -> None:
        """Allow eviction again."""
        self._store.close_file(self.file)
        self.entry.readers -= 1


class FetchedBody:
    """A blob under way, followed at the client's own pace."""

    def __init__(
        self,
        fetches: FetchPool,
        fetch: Fetch,
        size: int,
        upstream: PassThroughBody,
        outcome: Outcome,
        *,
        collapsed: bool,
    ) -> None:
        self.size = size
        self.outcome = outcome
        self.collapsed = collapsed and outcome is Outcome.MISS
        self._fetches = fetches
        self._fetch = fetch
        self._upstream = upstream

    async def send(self, span: Span, sink: Sink) -> None:
        """Follow the fetch; pass through the bytes that it will have too late, or never."""
        async with while_there(sink):
            if await self._passed(span, sink):
                return
            position = await follow(self._fetch, span, sink)
            detour = self._fetch.detour
            if position != span.stop and detour is not None:
                await self._go_round(Span(position, span.stop), detour, sink)

    async def _passed(self, span: Span, sink: Sink) -> bool:
        """Pass through a span that begins far ahead of the fetch, unless that comes near first."""
        near = span.start - _FAR_AHEAD
        if near <= self._fetch.visible:
            return False
        words = "bytes from %d on of %s are passed through, and not kept: the download is at %d"
        _log.debug(words, span.start, self._fetch.digest, self._fetch.visible)
        return await self._upstream.pass_span(span, sink, lambda: self._fetch.reaches(near))

    async def _go_round(self, rest: Span, detour: Detour, sink: Sink) -> None:
        """Pass the rest through."""
        words = "%d bytes of %s are passed through, and not kept: its download gave up the disk"
        _log.debug(words, rest.length, self._fetch.digest)
        if rest.stop == self.size and rest.start == detour.written:
            await self._upstream.pass_rest(rest, detour.hasher.copy(), sink)
        elif rest.stop == self.size and rest.start == 0:
            await self._upstream.pass_rest(rest, self._fetch.digest.hasher(), sink)
        else:
            await self._upstream.pass_span(rest, sink)

    async def proven(self) -> None:
        """Wait until all bytes are there and right, or cannot be stored; raises RegistryError."""
        await self._fetch.past(self.size - 1)

    def close(self) -> None:
        """Stop following."""
        self._fetches.leave(self._fetch, self._upstream.repository)
