"""Possession: an upstream that claims what came from elsewhere shows that it has the bytes."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import IO

from mirror.cache.download import Download
from mirror.cache.manifests import within
from mirror.flight import Flights
from mirror.oci.digest import Digest
from mirror.oci.errors import ContentWrong
from mirror.oci.names import Repository
from mirror.oci.ranges import Span
from mirror.store.store import Store
from mirror.upstream.registry import Registry

_SPAN = 64 * 1024  # bytes that are asked for
_LONGEST = 600.0  # seconds that it may take: an upstream without ranges sends all before them
_SPARE = 64  # notes of what is not there any more, before they are thrown away


class Possession:
    """Compares bytes of an upstream with those that are here, at a place that nobody foresees.

    To name a digest proves nothing: it is no secret, and a HEAD can be answered by who never saw
    the content. Within one upstream that is enough all the same, see `Catalogue.within`.

    The place follows from `key`, which stays in the data folder: it is the same for all upstreams,
    each time and after each start, so that an upstream with a part of a blob has one attempt.
    """

    def __init__(self, store: Store, key: bytes) -> None:
        self._store = store
        self._key = key
        self._questions: Flights[tuple[Repository, Digest, int], None] = Flights()
        self._left: dict[Digest, str] = {}

    def __repr__(self) -> str:
        return f"<Possession: {len(self._questions)} asked for>"

    async def close(self) -> None:
        """Stop what runs."""
        await self._questions.close()

    def left(self, digest: Digest, upstream: str) -> None:
        """Note whose fetch left a part of a blob behind, all of which it had.

        As many are noted as there are files of such parts, which cost who leaves them their bytes.
        """
        self._left[digest] = upstream
        there = self._store.books.idle_partials
        if len(self._left) > 2 * len(there) + _SPARE:
            self._left = {each: by for each, by in self._left.items() if each in there}

    def left_by(self, digest: Digest) -> str | None:
        """Return whose fetch it was, if that is known."""
        return self._left.get(digest)

    async def show(
        self,
        registry: Registry,
        repository: Repository,
        digest: Digest,
        file: IO[bytes],
        length: int,
        *,
        whole: bool,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        """Have an upstream show that it has what `file` has, in its first `length` bytes.

        That is the `whole` blob or its beginning. Clients that ask for the same are one question;
        `then` is done once it is shown, before another question can begin.
        Raises RangeRefused where upstream gives no parts, so that only the whole can prove it,
        ContentWrong where it sends others, UpstreamFailure.
        """
        span = _place(self._key, digest, length)
        size = length if whole else None

        async def ask(descriptor: int) -> None:
            try:
                here = await self._store.run_read(os.pread, descriptor, span.length, span.start)
            finally:
                os.close(descriptor)
            await self._ask(registry, repository, digest, span, here, size)
            then()

        await self._questions.join(
            (repository, digest, length),  # to have a beginning is not to have the rest
            lambda: ask(os.dup(file.fileno())),  # its client may leave, and close the file
        )

    async def _ask(
        self,
        registry: Registry,
        repository: Repository,
        digest: Digest,
        span: Span,
        here: bytes,
        size: int | None,
    ) -> None:
        async with within(_LONGEST):
            there = await _sent(registry, repository, digest, span, size)
        if not hmac.compare_digest(there, here):
            raise ContentWrong(f"upstream sends other bytes for {digest} than are known")


def _place(key: bytes, digest: Digest, length: int) -> Span:
    """Choose bytes by a keyed hash of what is asked for; all, where that is no more."""
    drawn = hmac.digest(key, f"{digest} {length}".encode(), "sha256")
    start = int.from_bytes(drawn) % max(1, length - _SPAN + 1)
    return Span(start, min(start + _SPAN, length))


async def _sent(
    registry: Registry, repository: Repository, digest: Digest, span: Span, size: int | None
) -> bytes:
    """Return what an upstream sends for a span of a blob, which has `size` bytes if that is known.

    Raises ContentWrong where it has another size.
    """
    sent = bytearray()
    stop = None if span.stop == size else span.stop
    download = Download(registry, repository, digest, span.start, stop, size=size, plain=False)
    async with download:
        while len(sent) < span.length and (data := await download.read()):
            sent += data
    return bytes(sent[: span.length])
