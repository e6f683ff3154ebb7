"""Followers: requests that take their bodies from a fetch, each at its client's own pace."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mirror.content.blobs.fetch import Fetch
from mirror.content.blobs.passthrough import PassThroughBody
from mirror.content.blobs.progress import Bypass
from mirror.content.blobs.sinks import Sink, while_connected
from mirror.content.outcome import Outcome
from mirror.oci.errors import RegistryError
from mirror.oci.names import Repository
from mirror.oci.ranges import Span

_log = logging.getLogger(__name__)

_FAR_AHEAD = 32 * 1024 * 1024  # bytes; a range further ahead of the fetch is not waited for


class Follower:
    """A request that follows a fetch in one repository. It must `leave`.

    `joined` says that the fetch ran before, for another request. Bytes that are proven, and about
    to be published, cost upstream nothing more: to join these is a hit.
    """

    def __init__(
        self,
        fetch: Fetch,
        repository: Repository,
        leave: Callable[[Fetch, Repository], None],
        *,
        joined: bool,
    ) -> None:
        self.fetch = fetch
        self.repository = repository
        self.joined = joined
        self.outcome = Outcome.HIT if joined and fetch.proven else Outcome.MISS
        self.collapsed = joined and self.outcome is Outcome.MISS
        self._leave = leave

    def __repr__(self) -> str:
        return f"<Follower of {self.fetch!r} in {self.repository}>"

    @property
    def refusal(self) -> RegistryError | None:
        """Upstream's refusal of the blob in this repository, if there is one."""
        return self.fetch.refusal(self.repository)

    async def started(self) -> None:
        """Wait until the response may begin; raises RegistryError. See `FetchProgress`."""
        await self.fetch.started(self.repository)

    async def send(self, span: Span, sink: Sink) -> int:
        """Send the visible bytes in `span`; returns the position where they ended.

        That is the span's end, or where the fetch bypassed the disk. Raises RegistryError, and the
        errors of the sink when its client has gone.
        """
        position = span.start
        while position < span.stop:
            end = min(await self.fetch.past(position), span.stop)
            if end <= position:
                break
            position = await self.fetch.send(position, end, sink)
        return position

    def leave(self) -> None:
        """Stop following."""
        self._leave(self.fetch, self.repository)


class FetchedBody:
    """A blob under way, of `size` bytes."""

    def __init__(self, follower: Follower, size: int, upstream: PassThroughBody) -> None:
        self.size = size
        self.outcome = follower.outcome
        self.collapsed = follower.collapsed
        self._follower = follower
        self._fetch = follower.fetch
        self._upstream = upstream

    async def send(self, span: Span, sink: Sink) -> None:
        """Follow the fetch; pass through the bytes that it will have too late, or never."""
        async with while_connected(sink):
            if await self._passed(span, sink):
                return
            position = await self._follower.send(span, sink)
            bypass = self._fetch.bypass
            if position != span.stop and bypass is not None:
                await self._pass_rest(Span(position, span.stop), bypass, sink)

    async def _passed(self, span: Span, sink: Sink) -> bool:
        """Pass through a span that begins far ahead of the fetch, unless that comes near first."""
        near = span.start - _FAR_AHEAD
        if near <= self._fetch.visible:
            return False
        words = "bytes from %d on of %s are passed through, and not kept: the download is at %d"
        _log.debug(words, span.start, self._fetch.digest, self._fetch.visible)
        return await self._upstream.pass_span(span, sink, lambda: self._fetch.reaches(near))

    async def _pass_rest(self, rest: Span, bypass: Bypass, sink: Sink) -> None:
        """Pass the rest through."""
        words = "%d bytes of %s are passed through, and not kept: its download gave up the disk"
        _log.debug(words, rest.length, self._fetch.digest)
        if rest.stop == self.size and rest.start == bypass.written:
            await self._upstream.pass_rest(rest, bypass.hasher.copy(), sink)
        elif rest.stop == self.size and rest.start == 0:
            await self._upstream.pass_rest(rest, self._fetch.digest.hasher(), sink)
        else:
            await self._upstream.pass_span(rest, sink)

    @property
    def arrived(self) -> int:
        """The bytes that followers may read so far."""
        return self._fetch.visible

    async def proven(self) -> None:
        """Wait until all bytes are there and right, or cannot be stored; raises RegistryError."""
        await self._fetch.past(self.size - 1)

    def close(self) -> None:
        """Stop following."""
        self._follower.leave()
