"""Proof of possession: an upstream shows that it has content which another upstream sent."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from mirror.content.blobs.download import Download
from mirror.oci.digest import Digest
from mirror.oci.errors import ContentWrong
from mirror.oci.names import Repository
from mirror.oci.ranges import Span
from mirror.storage.blobs.protocol import BlobReader
from mirror.storage.store import Store
from mirror.upstream.blob_source import BlobSource
from mirror.upstream.errors import deadline
from mirror.util.singleflight import SingleFlight

_SPAN = 64 * 1024  # bytes of the requested range
_LONGEST = 600.0  # seconds for a proof: an upstream without ranges sends all bytes before it
_SPARE = 64  # notes of removed partials, before they are dropped


class Possession:
    """Compares a range of an upstream's bytes with the stored copy, at an unpredictable offset.

    Naming a digest proves nothing: it is no secret, and an upstream can answer a HEAD without the
    content. Within one upstream a HEAD is enough all the same, see `Catalog.within`.

    The offset follows from `key`, which stays in the data folder: it is the same for all upstreams,
    each time and after each start, so that an upstream with a part of a blob has one attempt.
    """

    def __init__(self, store: Store, key: bytes) -> None:
        self._store = store
        self._key = key
        self._questions: SingleFlight[tuple[Repository, Digest, int], None] = SingleFlight()
        self._left: dict[Digest, str] = {}

    def __repr__(self) -> str:
        return f"<Possession: {len(self._questions)} asked for>"

    async def close(self) -> None:
        """Cancel all proofs that are under way."""
        await self._questions.close()

    def left(self, digest: Digest, upstream: str) -> None:
        """Record the upstream of a fetch that left a partial, and that has all of its bytes.

        The records are bounded by the number of partials, each of which cost its upstream bytes.
        """
        self._left[digest] = upstream
        partials = self._store.idle_partials()
        if len(self._left) > 2 * len(partials) + _SPARE:
            self._left = {each: by for each, by in self._left.items() if each in partials}

    def left_by(self, digest: Digest) -> str | None:
        """Return the upstream that a blob's partial came from, if that is known."""
        return self._left.get(digest)

    async def show(
        self,
        source: BlobSource,
        repository: Repository,
        digest: Digest,
        reader: BlobReader,
        length: int,
        *,
        whole: bool,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        """Ask an upstream to prove that it has the first `length` bytes of `reader`.

        These are the `whole` blob or its beginning. The same proof runs once for all clients
        (single flight); `then` is called after a success, before another proof can begin.
        Raises RangeRefused if upstream serves no ranges, so that only the whole blob can prove it,
        ContentWrong if it sends other bytes, UpstreamFailure.
        """
        span = _place(self._key, digest, length)
        size = length if whole else None

        async def ask(stored: BlobReader) -> None:
            try:
                stored_bytes = bytes(await stored.read(span.start, span.stop))
            finally:
                stored.close()
            await self._ask(source, repository, digest, span, stored_bytes, size)
            then()

        await self._questions.join(
            (repository, digest, length),  # having the beginning does not prove the rest
            lambda: ask(reader.duplicate()),  # the client may leave and close its own
        )

    async def _ask(
        self,
        source: BlobSource,
        repository: Repository,
        digest: Digest,
        span: Span,
        stored_bytes: bytes,
        size: int | None,
    ) -> None:
        async with deadline(_LONGEST):
            upstream_bytes = await _sent(source, repository, digest, span, size)
        if not hmac.compare_digest(upstream_bytes, stored_bytes):
            raise ContentWrong(f"upstream sent bytes for {digest} that differ from the stored copy")


def _place(key: bytes, digest: Digest, length: int) -> Span:
    """Choose the range by a keyed hash of the digest and length; short content is taken whole."""
    drawn = hmac.digest(key, f"{digest} {length}".encode(), "sha256")
    start = int.from_bytes(drawn) % max(1, length - _SPAN + 1)
    return Span(start, min(start + _SPAN, length))


async def _sent(
    source: BlobSource, repository: Repository, digest: Digest, span: Span, size: int | None
) -> bytes:
    """Return an upstream's bytes for a span of a blob; `size` is that of the blob, if known.

    Raises ContentWrong if upstream's blob has another size.
    """
    sent = bytearray()
    stop = None if span.stop == size else span.stop
    download = Download(source, repository, digest, span.start, stop, size=size, plain=False)
    async with download:
        while len(sent) < span.length and (data := await download.read()):
            sent += data
    return bytes(sent[: span.length])
