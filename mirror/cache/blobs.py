"""Blobs: served where they belong, from the cache or while they are being fetched."""

from __future__ import annotations

import asyncio
import os
from typing import IO

from cachetools import TTLCache

from mirror.cache.bodies import Body, FetchedBody, KeptBody, Upstream
from mirror.cache.fetches import Fetches
from mirror.cache.memory import Memory
from mirror.cache.outcome import Outcome
from mirror.flight import Flights
from mirror.oci.digest import Digest
from mirror.oci.errors import BlobUnknown
from mirror.oci.names import Repository
from mirror.store.store import Store
from mirror.upstream.registry import Registry

_MISSING_KEPT = 10_000
_PASSES = 64  # bodies straight from upstream at the same time; more wait


class Blobs:
    """Answers for all upstreams. `missing_ttl` in seconds."""

    def __init__(
        self,
        registries: dict[str, Registry],
        store: Store,
        fetches: Fetches,
        memory: Memory,
        missing_ttl: float,
    ) -> None:
        self._registries = registries
        self._store = store
        self._fetches = fetches
        self._memory = memory
        self._sizes: Flights[tuple[Repository, Digest], int] = Flights()
        self._passes = asyncio.Semaphore(_PASSES)
        self._missing: TTLCache[tuple[Repository, Digest], str] = TTLCache(
            _MISSING_KEPT, missing_ttl
        )

    def __repr__(self) -> str:
        return f"<Blobs: {self._fetches!r}, {len(self._missing)} missing>"

    async def close(self) -> None:
        """Stop what runs."""
        await self._sizes.close()
        await self._fetches.close()

    def peek(self, repository: Repository, digest: Digest) -> bytes | None:
        """Answer at once from memory, or not at all: the path of every warm config."""
        body = self._memory.get(digest)
        if body is None or self._store.catalogue.get(digest) is None:
            return None
        if not self._store.catalogue.belongs(digest, repository):
            return None
        self._store.touch(digest)
        return body

    async def head(self, repository: Repository, digest: Digest) -> tuple[int, Outcome]:
        """Return a blob's size in bytes, without fetching it; raises RegistryError."""
        self._refuse_missing(repository, digest)
        entry = self._store.catalogue.get(digest)
        if entry is not None and self._store.catalogue.belongs(digest, repository):
            return entry.size, Outcome.HIT
        size = await self._confirm(repository, digest)
        return size, Outcome.MISS if entry is None else Outcome.REVALIDATED

    async def open(self, repository: Repository, digest: Digest) -> Body:
        """Open a blob to be sent and closed; raises RegistryError.

        There are three cases: it is kept; it is on its way; it must be fetched. In each the
        repository must be known to hold it, and upstream is asked where that is not so.
        """
        self._refuse_missing(repository, digest)
        await self._fetches.stopped(digest)  # else the next one to join might be another's
        asked = await self._belong(repository, digest)
        kept = await self._open_kept(digest)
        if kept is not None:
            if asked:
                kept.outcome = Outcome.REVALIDATED
            return kept
        return await self._open_fetch(repository, digest)

    async def _belong(self, repository: Repository, digest: Digest) -> bool:
        """Make sure that a blob we could serve belongs to the repository; True if that was asked.

        A blob that we could not serve is asked for in that repository anyway.
        """
        fetch = self._fetches.running(digest)
        kept = self._store.catalogue.get(digest) is not None
        if not kept and (fetch is None or fetch.repository == repository):
            return False
        if self._store.catalogue.belongs(digest, repository):
            return False
        await self._confirm(repository, digest)
        return True

    async def _confirm(self, repository: Repository, digest: Digest) -> int:
        """Ask upstream, once for all, whether the repository has it; returns its size in bytes."""
        registry = self._registries[repository.upstream]
        try:
            size = await self._sizes.join(
                (repository, digest), lambda: registry.head_blob(repository.name, digest)
            )
        except BlobUnknown as error:
            self._missing[repository, digest] = error.message
            raise
        self._store.link(digest, repository)
        return size

    def _refuse_missing(self, repository: Repository, digest: Digest) -> None:
        if message := self._missing.get((repository, digest)):
            raise BlobUnknown(message)

    async def _open_kept(self, digest: Digest) -> KeptBody | None:
        """Open the kept file. One that is gone or has another size is discarded."""
        entry = self._store.catalogue.get(digest)
        if entry is None:
            return None
        try:
            file = await self._store.open(digest)
        except OSError:
            await self._store.discard(digest)
            return None
        if os.fstat(file.fileno()).st_size != entry.size:
            file.close()
            await self._store.discard(digest)
            return None
        if entry.size <= self._memory.largest:
            await self._remember(digest, file, entry.size)
        if self._store.catalogue.get(digest) is not entry:
            file.close()
            return None
        self._store.touch(digest)
        return KeptBody(self._store, entry, file)

    async def _remember(self, digest: Digest, file: IO[bytes], size: int) -> None:
        """Take a small blob into memory, so that it is opened once."""
        try:
            body = await self._store.run(os.pread, file.fileno(), size, 0)
        except OSError:
            body = b""
        if digest.proves(body):
            self._memory.put(digest, body)
        else:
            await self._store.discard(digest)

    async def _open_fetch(self, repository: Repository, digest: Digest) -> Body:
        registry = self._registries[repository.upstream]
        upstream = Upstream(registry, repository, digest, self._passes)
        running = self._fetches.running(digest)
        fetch = await self._fetches.join(registry, repository, digest)
        proven = fetch.proven
        try:
            await fetch.started()
            size = fetch.size if fetch.size is not None else await upstream.size()
        except BaseException as error:
            self._fetches.leave(fetch)
            if isinstance(error, BlobUnknown):
                self._missing[repository, digest] = error.message
            raise
        collapsed = running is fetch
        # Proven and about to be in its place: this one costs upstream nothing.
        outcome = Outcome.HIT if collapsed and proven else Outcome.MISS
        return FetchedBody(self._fetches, fetch, size, upstream, outcome, collapsed=collapsed)
