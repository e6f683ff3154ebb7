"""Where a blob's bytes come from: a kept file, a fetch on its way, or straight from upstream."""

from __future__ import annotations

import asyncio
from typing import IO, Protocol

from mirror.cache.download import Download
from mirror.cache.fetch import TAIL, Fetch, Sink, follow
from mirror.cache.fetches import Fetches
from mirror.cache.outcome import Outcome
from mirror.oci.digest import Digest, Hasher
from mirror.oci.errors import RegistryError, UpstreamMisbehaved
from mirror.oci.names import Repository
from mirror.oci.ranges import Span
from mirror.store.catalogue import Entry
from mirror.store.errors import is_of_disk
from mirror.store.store import Store
from mirror.upstream.registry import Registry

_FAR_AHEAD = 32 * 1024 * 1024  # bytes; a range further behind the fill is not waited for


class Body(Protocol):
    """A blob to be sent: `size` in bytes, and to be closed."""

    size: int
    outcome: Outcome
    collapsed: bool

    async def send(self, span: Span, sink: Sink) -> None:
        """Send a span of it; raises RegistryError where it cannot be completed."""

    def close(self) -> None:
        """Let go of it."""


class KeptBody:
    """A kept blob, safe from eviction until it is closed."""

    outcome = Outcome.HIT
    collapsed = False

    def __init__(self, store: Store, entry: Entry, file: IO[bytes]) -> None:
        self.size = entry.size
        self.file = file
        self.entry = entry
        self._store = store
        entry.readers += 1

    async def send(self, span: Span, sink: Sink) -> None:
        """Hand the file to the sink; one that fails midway is proven before its next use."""
        try:
            await sink.file(self.file, span.start, span.stop)
        except (OSError, RegistryError) as error:
            if not isinstance(error, OSError) or is_of_disk(error):
                self.entry.changed_at = None
            raise

    def close(self) -> None:
        """Let it be evicted again."""
        self._store.close_file(self.file)
        self.entry.readers -= 1


class FetchedBody:
    """A blob that upstream is sending, followed at this client's own pace."""

    def __init__(
        self,
        fetches: Fetches,
        fetch: Fetch,
        size: int,
        upstream: Upstream,
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
        """Follow the fetch; pass through what it will not have in time, or at all."""
        if span.start > self._fetch.visible + _FAR_AHEAD:
            await self._upstream.pass_span(span, sink)
            return
        position = await follow(self._fetch, span, sink)
        detour = self._fetch.detour
        if position == span.stop or detour is None:
            return
        if span.stop == self.size and position == detour.written:
            await self._upstream.pass_rest(Span(position, self.size), detour.hasher.copy(), sink)
        elif span.stop == self.size and position == 0:
            await self._upstream.pass_rest(Span(0, self.size), self._fetch.digest.hasher(), sink)
        else:
            await self._upstream.pass_span(Span(position, span.stop), sink)

    async def proven(self) -> None:
        """Wait until all of it has come and is right, or cannot be kept; raises RegistryError."""
        await self._fetch.past(self.size - 1)

    def close(self) -> None:
        """Stop following."""
        self._fetches.leave(self._fetch)


class Upstream:
    """A blob straight from upstream, for one client, kept nowhere. `passes` bounds how many."""

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        digest: Digest,
        passes: asyncio.Semaphore,
    ) -> None:
        self._passes = passes
        self._registry = registry
        self._repository = repository
        self._digest = digest

    async def size(self) -> int:
        """Find out how many bytes the blob has, by all of them if need be; raises RegistryError."""
        size = await self._registry.find_blob(self._repository.name, self._digest)
        if size is not None:
            return size
        async with self._passes, self._download() as download:
            while await download.read():
                pass
            return download.position

    async def pass_span(self, span: Span, sink: Sink) -> None:
        """Send part of a blob, which nobody can prove."""
        async with self._passes, self._download(span.start, span.stop) as download:
            left = span.length
            while left and (data := await download.read()):
                await sink.data(data[:left])  # an upstream that ignores ranges sends more
                left -= min(left, len(data))

    async def pass_rest(self, rest: Span, hasher: Hasher, sink: Sink) -> None:
        """Send the rest, up to which `hasher` has come; its tail only when proven.

        More than the answer was said to have would be another answer to whoever shares the
        client's connection.
        """
        held = b""
        async with self._passes, self._download(rest.start) as download:
            while data := await download.read():
                if download.position > rest.stop:
                    raise UpstreamMisbehaved("upstream sends more of a blob than it told of")
                hasher.update(data)
                held += data
                if len(held) > TAIL:
                    await sink.data(held[:-TAIL])
                    held = held[-TAIL:]
        if hasher.hexdigest() != self._digest.hex:
            raise UpstreamMisbehaved(f"upstream sent bytes that are not {self._digest}")
        await sink.data(held)

    def _download(self, start: int = 0, stop: int | None = None) -> Download:
        return Download(self._registry, self._repository, self._digest, start, stop)
