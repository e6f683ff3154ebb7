"""Pass-through: a blob sent from upstream to one client, without being stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sized
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from mirror.content.blobs.download import Download
from mirror.content.blobs.progress import TAIL
from mirror.content.blobs.sinks import Sink
from mirror.oci.digest import Digest, Hasher
from mirror.oci.errors import UpstreamMisbehaved
from mirror.oci.names import Repository
from mirror.oci.ranges import Span
from mirror.upstream.blob_source import BlobSource
from mirror.util.fair_semaphore import FairSemaphore

Condition: TypeAlias = Callable[[], Coroutine[Any, Any, bool]]


class PassThrough:
    """The limit on concurrent pass-through bodies: `most`, divided among upstreams and clients.

    If `upstreams` has a single entry, that upstream may take all of them.
    """

    def __init__(self, most: int, upstreams: Sized) -> None:
        self._places = FairSemaphore(most)
        self._upstreams = upstreams

    def __repr__(self) -> str:
        return f"<PassThrough: {self._places!r}>"

    @asynccontextmanager
    async def taken(
        self, upstream: str, client: str, unless: Condition | None = None
    ) -> AsyncIterator[bool]:
        """Hold a pass. Yields False, without a pass, if `unless` came true during the wait."""
        owners = self._owners(upstream, client)
        taken = self._places.try_take(*owners) or await self._wait(owners, unless)
        try:
            yield taken
        finally:
            if taken:
                self._places.give(*owners)

    async def _wait(self, owners: tuple[str, ...], unless: Condition | None) -> bool:
        if unless is None:
            await self._places.take(*owners)
            return True
        turn = asyncio.create_task(self._places.take(*owners))
        needless = asyncio.create_task(unless())
        try:
            await asyncio.wait((turn, needless), return_when=asyncio.FIRST_COMPLETED)
            if turn.done() or not await needless:
                await turn
                return True
        except asyncio.CancelledError:
            await self._let_go(turn, owners)
            raise
        finally:
            needless.cancel()
        await self._let_go(turn, owners)
        return False

    async def _let_go(self, turn: asyncio.Task[None], owners: tuple[str, ...]) -> None:
        """Cancel a wait; a pass that was granted at the same moment is given back."""
        turn.cancel()
        await asyncio.wait([turn])
        if not turn.cancelled():
            self._places.give(*owners)

    def _owners(self, upstream: str, client: str) -> tuple[str, ...]:
        of_client = f"client {client}"
        return (of_client,) if len(self._upstreams) == 1 else (f"upstream {upstream}", of_client)


class PassThroughBody:
    """A blob of a repository, passed through to one client; it ends when the client leaves."""

    def __init__(
        self,
        source: BlobSource,
        repository: Repository,
        digest: Digest,
        pass_through: PassThrough,
        client: str,
    ) -> None:
        self.repository = repository
        self._pass_through = pass_through
        self._source = source
        self._digest = digest
        self._client = client

    async def size(self) -> int:
        """Return the size of the blob in bytes; if HEAD does not tell it, by a whole download.

        Raises RegistryError.
        """
        size = await self._source.find_blob(self.repository.name, self._digest)
        if size is not None:
            return size
        async with self._pass(), self._download() as download:
            while await download.read():
                pass
            return download.position

    async def pass_span(self, span: Span, sink: Sink, unless: Condition | None = None) -> bool:
        """Send part of a blob; a part cannot be proven by the digest.

        Returns False, with nothing sent, if `unless` came true during the wait for a pass.
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
        """Send the rest of a blob after the bytes in `hasher`; the tail is sent only when proven.

        Bytes beyond the announced length are refused: on a shared connection another client would
        read them as the next response.
        """
        held = b""
        async with self._pass(), self._download(rest.start) as download:
            while data := await download.read():
                if download.position > rest.stop:
                    raise UpstreamMisbehaved("upstream sent more bytes of a blob than it announced")
                hasher.update(data)
                held += data
                if len(held) > TAIL:
                    await sink.data(held[:-TAIL])
                    held = held[-TAIL:]
        if hasher.hexdigest() != self._digest.hex:
            raise UpstreamMisbehaved(f"upstream sent bytes that are not {self._digest}")
        await sink.data(held)

    def _pass(self, unless: Condition | None = None) -> AbstractAsyncContextManager[bool]:
        return self._pass_through.taken(self.repository.upstream, self._client, unless)

    def _download(self, start: int = 0, stop: int | None = None) -> Download:
        return Download(self._source, self.repository, self._digest, start, stop)
