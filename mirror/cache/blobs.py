"""Blobs: served where they belong, from the cache or while they are being fetched."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from functools import partial
from typing import IO

from cachetools import LRUCache, TTLCache

from mirror.cache.bodies import Body, FetchedBody, KeptBody, Upstream
from mirror.cache.fetch import Fetch
from mirror.cache.fetches import Fetches
from mirror.cache.memory import Memory
from mirror.cache.outcome import Outcome
from mirror.cache.possession import Possession
from mirror.flight import Flights
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    BlobUnknown,
    ContentWrong,
    HostUnreachable,
    RangeBroken,
    RegistryError,
    UpstreamFailure,
    UpstreamMisbehaved,
    may_pass,
)
from mirror.oci.names import Repository
from mirror.store.catalogue import Entry
from mirror.store.errors import says_nothing
from mirror.store.store import Store
from mirror.upstream.registry import Registry

_MISSING_KEPT = 10_000
_GIVEN_KEPT = 10_000  # kept manifests that upstream gave as blobs, too
_SHARED = 2  # fetches begun by others, whose failures are not told to a client
_PASSES = 64  # bodies straight from upstream at the same time; more wait


class Blobs:
    """Answers for all upstreams. `missing_ttl` in seconds."""

    def __init__(
        self,
        registries: dict[str, Registry],
        store: Store,
        fetches: Fetches,
        possession: Possession,
        memory: Memory,
        missing_ttl: float,
    ) -> None:
        self._registries = registries
        self._alone = len(registries) == 1
        self._store = store
        self._fetches = fetches
        self._possession = possession
        self._memory = memory
        self._sizes: Flights[tuple[Repository, Digest], int | None] = Flights()
        self._passes = asyncio.Semaphore(_PASSES)
        self._missing: TTLCache[tuple[Repository, Digest], str] = TTLCache(
            _MISSING_KEPT, missing_ttl
        )
        self._given: LRUCache[tuple[Repository, Digest], None] = LRUCache(_GIVEN_KEPT)

    def __repr__(self) -> str:
        return f"<Blobs: {self._fetches!r}, {len(self._missing)} missing>"

    async def close(self) -> None:
        """Stop what runs."""
        await self._sizes.close()
        await self._fetches.close()

    def peek(self, repository: Repository, digest: Digest) -> bytes | None:
        """Answer at once from memory, or not at all: the path of every warm config."""
        body = self._memory.get(digest)
        entry = self._store.catalogue.get(digest)
        if body is None or entry is None or not self._belongs(repository, digest, entry):
            return None
        self._store.books.touch(digest)
        return body

    async def head(self, repository: Repository, digest: Digest) -> tuple[int, Outcome]:
        """Return a blob's size in bytes; raises RegistryError.

        The blob is fetched where upstream tells its size neither to HEAD nor in a GET's headers.
        """
        self._refuse_missing(repository, digest)
        entry = self._store.catalogue.get(digest)
        if entry is not None and self._belongs(repository, digest, entry):
            return entry.size, Outcome.HIT
        running = self._fetches.running(repository.upstream, digest)
        if running is not None and running.serves(repository) and running.size is not None:
            return running.size, Outcome.MISS
        within = self._within(repository, digest)
        outcome = Outcome.REVALIDATED if within else Outcome.MISS
        known = entry.size if entry is not None and within else None
        with suppress(UpstreamMisbehaved):  # only the bytes can tell
            size = await self._confirm(repository, digest, known)
            if size is not None:
                return size, outcome
        body = await self._open_fetch(repository, digest)
        try:
            return body.size, outcome
        finally:
            body.close()

    async def open(self, repository: Repository, digest: Digest) -> Body:
        """Open a blob to be sent and closed; raises RegistryError.

        There are three cases: it is kept; its upstream is sending it; it must be fetched. In each
        the repository must be known to hold it, and upstream is asked where that is not so.
        """
        self._refuse_missing(repository, digest)
        await self._fetches.stopped(repository.upstream, digest)  # or it may become another's
        running = self._fetches.running(repository.upstream, digest)
        asked = running is not None and not running.serves(repository)
        shown = running is not None and asked and await self._shown(repository, running)
        if asked and not shown:
            await self._fetches.others_over(repository, digest)
        kept = await self._open_kept(repository, digest)
        if kept is None:
            return await self._open_fetch(repository, digest, shown=shown)
        try:
            if not self._belongs(repository, digest, kept.entry):
                asked = True
                await self._claim(repository, digest, kept)
        except UpstreamMisbehaved as doubt:
            kept.close()
            return await self._open_proof(repository, digest, doubt)
        except BaseException:
            kept.close()
            raise
        if asked:
            kept.outcome = Outcome.REVALIDATED
        return kept

    async def _shown(self, repository: Repository, running: Fetch) -> bool:
        """Whether upstream says that a repository has what is on its way for another.

        It does not where it names another size: an error document may come under a 200, too.
        """
        with suppress(UpstreamMisbehaved):
            told = await self._confirm(repository, running.digest, running.size)
            return told is not None and told == await running.sized()
        return False

    def _belongs(self, repository: Repository, digest: Digest, entry: Entry) -> bool:
        """Whether the repository was seen to hold what is kept, as a blob.

        A manifest is none: clients that get one from here take it for a blob of any type.
        """
        if entry.media_type is None:
            return repository in entry.links
        return (repository, digest) in self._given

    def _within(self, repository: Repository, digest: Digest) -> bool:
        """Whether it is kept and of this upstream, which is believed about where it is."""
        catalogue = self._store.catalogue
        entry = catalogue.get(digest)
        is_blob = entry is not None and entry.media_type is None
        return is_blob and catalogue.within(digest, repository.upstream, alone=self._alone)

    async def _confirm(
        self, repository: Repository, digest: Digest, size: int | None
    ) -> int | None:
        """Ask upstream, once for all clients, whether the repository has it; returns its size.

        `size` is what is known of it, in bytes; None is returned where upstream does not tell it.
        Raises UpstreamMisbehaved where it tells of another, as an answer that was asked for before
        the size was known may do.
        """
        registry = self._registries[repository.upstream]
        try:
            told = await self._sizes.share(
                (repository, digest),
                lambda: registry.find_blob(repository.name, digest, size),
                may_pass,
            )
        except BlobUnknown as error:
            self._missing[repository, digest] = error.message
            raise
        entry, within = self._store.catalogue.get(digest), self._within(repository, digest)
        known = entry.size if entry is not None and within else size
        if known is not None and told != known:
            raise UpstreamMisbehaved("upstream names another size of the blob than is known")
        if within:
            self._store.books.link(digest, repository)
        return told

    async def _claim(self, repository: Repository, digest: Digest, kept: KeptBody) -> None:
        """Have a kept blob belong to the repository as well, if it does: upstream must show it.

        Raises UpstreamMisbehaved where only the whole can show it.
        """
        if self._within(repository, digest):
            await self._confirm(repository, digest, kept.size)
            return
        registry, size = self._registries[repository.upstream], kept.size
        link = partial(self._store.books.link, digest, repository)
        try:
            await self._possession.show(
                registry, repository, digest, kept.file, size, whole=True, then=link
            )
        except (HostUnreachable, UpstreamMisbehaved):
            raise
        except UpstreamFailure as failure:  # a part that does not come leaves a doubt
            raise ContentWrong(failure.message) from failure

    async def _open_proof(
        self, repository: Repository, digest: Digest, doubt: UpstreamFailure
    ) -> Body:
        """Fetch what is kept once more, from the repository that has not shown that it has it.

        The whole proves what no shortcut did; of an upstream that sent other bytes before, or broke
        them off, nothing is passed on until it has.
        """
        body = await self._open_fetch(repository, digest)
        try:
            if isinstance(doubt, ContentWrong | RangeBroken):
                await body.proven()
        except BaseException:
            body.close()
            raise
        return body

    def _refuse_missing(self, repository: Repository, digest: Digest) -> None:
        if message := self._missing.get((repository, digest)):
            raise BlobUnknown(message)

    async def _open_kept(self, repository: Repository, digest: Digest) -> KeptBody | None:
        """Open the kept file. One that is gone, altered or unreadable is discarded.

        Where we cannot tell, for want of descriptors say, upstream has it too.
        """
        entry = self._store.catalogue.get(digest)
        if entry is None or (entry.media_type and not self._belongs(repository, digest, entry)):
            return None
        file: IO[bytes] | None = None
        try:
            file = await self._store.open(digest)
            right = await self._is_right(digest, entry, file)
        except OSError as error:
            right = False
            if says_nothing(error):
                _let_go(file)
                return None
        except BaseException:
            _let_go(file)
            raise
        if self._store.catalogue.get(digest) is not entry:  # evicted, or discarded by another
            _let_go(file)
            return None
        if file is None or not right:
            _let_go(file)
            await self._store.discard(digest)
            return None
        self._store.books.touch(digest)
        return KeptBody(self._store, entry, file)

    async def _is_right(self, digest: Digest, entry: Entry, file: IO[bytes]) -> bool:
        """Whether a file is what it should be; a small one is remembered, to be opened once."""
        if entry.size > self._memory.largest:
            return await self._store.intact(digest, entry, file)
        # One byte more than it should have, so that a longer one shows.
        body = await self._store.run_read(os.pread, file.fileno(), entry.size + 1, 0)
        if not digest.proves(body):
            return False
        self._memory.put(digest, body)
        return True

    async def _open_fetch(
        self, repository: Repository, digest: Digest, *, shown: bool = False
    ) -> FetchedBody:
        """Open a fetch, a running one if there is one.

        One that had begun before, and brings nothing, failed at another's question, of another
        repository perhaps: then one more is asked.
        """
        for _ in range(_SHARED):
            running = self._fetches.running(repository.upstream, digest)
            try:
                return await self._join_fetch(repository, digest, shown=shown)
            except RegistryError as failure:
                if running is None or not may_pass(failure):
                    raise
                if running.repository == repository:
                    break
        return await self._join_fetch(repository, digest, shown=shown)

    async def _join_fetch(
        self, repository: Repository, digest: Digest, *, shown: bool
    ) -> FetchedBody:
        registry = self._registries[repository.upstream]
        upstream = Upstream(registry, repository, digest, self._passes)
        running = self._fetches.running(repository.upstream, digest)
        fetch = await self._fetches.join(registry, repository, digest, shown=shown)
        proven = fetch.proven
        try:
            await fetch.started()
            size = fetch.size if fetch.size is not None else await upstream.size()
        except BaseException as error:
            self._fetches.leave(fetch)
            if isinstance(error, BlobUnknown) and fetch.repository == repository:
                self._missing[repository, digest] = error.message
            raise
        self._missing.pop((repository, digest), None)
        entry = self._store.catalogue.get(digest)
        if fetch.proven and entry is not None and entry.media_type is not None:
            self._given[repository, digest] = None
        collapsed = running is fetch
        # Proven and about to be in its place: this one costs upstream nothing.
        outcome = Outcome.HIT if collapsed and proven else Outcome.MISS
        return FetchedBody(self._fetches, fetch, size, upstream, outcome, collapsed=collapsed)


def _let_go(file: IO[bytes] | None) -> None:
    """Let go of a file that is not served."""
    if file is not None:
        file.close()
