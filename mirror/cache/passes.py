"""Passes: a blob straight from upstream, for one client, kept nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sized
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from mirror.cache.download import Download
from mirror.cache.following import Sink
from mirror.cache.progress import TAIL
from mirror.oci.digest import Digest, Hasher
from mirror.oci.errors import UpstreamMisbehaved
from mirror.oci.names import Repository
from mirror.oci.ranges import Span
from mirror.upstream.places import Places
from mirror.upstream.registry import Registry

Doubt: TypeAlias = Callable[[], Coroutine[Any, Any, bool]]  # whether none is needed any more


class Passes:
    """How many bodies come straight from upstream: `most`, shared by upstreams and by clients.

    Where there is one of the `upstreams` only, that may have them all.
    """

    def __init__(self, most: int, upstreams: Sized) -> None:
        self._places = Places(most)
        self._upstreams = upstreams

    def __repr__(self) -> str:
        return f"<Passes: {self._places!r}>"

    @asynccontextmanager
    async def taken(
        self, upstream: str, client: str, unless: Doubt | None = None
    ) -> AsyncIterator[bool]:
        """Hold a pass; False where `unless` came true before there was one, and none is held."""
        owners = self._owners(upstream, client)
        taken = self._places.try_take(*owners) or await self._wait(owners, unless)
        try:
            yield taken
        finally:
            if taken:
                self._places.give(*owners)

    async def _wait(self, owners: tuple[str, ...], unless: Doubt | None) -> bool:
        if unless is None:
            await self._places.take(*owners)
            return True
        turn = asyncio.create_task(self._places.take(*owners))
        other = asyncio.create_task(unless())
        try:
            await asyncio.wait((turn, other), return_when=asyncio.FIRST_COMPLETED)
            if turn.done() or not await other:
                await turn
                return True
        except asyncio.CancelledError:
            await self._let_go(turn, owners)
            raise
        finally:
            other.cancel()
        await self._let_go(turn, owners)
        return False

    async def _let_go(self, turn: asyncio.Task[None], owners: tuple[str, ...]) -> None:
        """Wait no longer; what was given in this moment is given back."""
        turn.cancel()
        await asyncio.wait([turn])
        if not turn.cancelled():
            self._places.give(*owners)

    def _owners(self, upstream: str, client: str) -> tuple[str, ...]:
        of_client = f"client {client}"
        return (of_client,) if len(self._upstreams) == 1 else (f"upstream {upstream}", of_client)


class Upstream:
    """A blob of a repository straight from upstream, for one client, who ends it by leaving."""

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        digest: Digest,
        passes: Passes,
        client: str,
    ) -> None:
        self.repository = repository
        self._passes = passes
        self._registry = registry
        self._digest = digest
        self._client = client

    async def size(self) -> int:
        """Find out how many bytes the blob has, by all of them if need be; raises RegistryError."""
        size = await self._registry.find_blob(self.repository.name, self._digest)
        if size is not None:
            return size
        async with self._pass(), self._download() as download:
            while await download.read():
                pass
            return download.position

    async def pass_span(self, span: Span, sink: Sink, unless: Doubt | None = None) -> bool:
        """Send part of a blob, which nobody can prove.

        False where `unless` came true before there was a pass, and nothing was sent.
        """
        async with self._pass(unless) as passed:
            if not passed:
                return False
            async with self._download(span.start, span.stop) as download:
                left = span.length
                while left and (data := await download.read()):
                    await sink.data(data[:left])  # an upstream that ignores ranges sends more
                    left -= min(left, len(data))
        return True

    async def pass_rest(self, rest: Span, hasher: Hasher, sink: Sink) -> None:
        """Send the rest, up to which `hasher` has come; its tail only when proven.

        More than the answer was said to have would be another answer to whoever shares the
        client's connection.
        """
        held = b""
        async with self._pass(), self._download(rest.start) as download:
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

    def _pass(self, unless: Doubt | None = None) -> AbstractAsyncContextManager[bool]:
        return self._passes.taken(self.repository.upstream, self._client, unless)

    def _download(self, start: int = 0, stop: int | None = None) -> Download:
        return Download(self._registry, self.repository, self._digest, start, stop)
