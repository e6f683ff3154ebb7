"""Blobs: served where they are linked, from the cache or during their fetch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from mirror.content.blobs.bodies import Body, FetchedBody, StoredBody
from mirror.content.blobs.fetch import Fetch
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.content.blobs.links import BlobLinks
from mirror.content.blobs.passthrough import PassThrough, PassThroughBody
from mirror.content.blobs.possession import Possession
from mirror.content.blobs.progress import Displaced
from mirror.content.blobs.stored import StoredBlobs
from mirror.content.memory_cache import MemoryCache
from mirror.content.outcome import Outcome
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    ContentWrong,
    RangeBroken,
    RegistryError,
    UpstreamFailure,
    UpstreamMisbehaved,
    may_pass,
)
from mirror.oci.names import Repository
from mirror.storage.store import Store
from mirror.upstream.blob_source import BlobSource

_SHARED = 2  # fetches begun by other requests, of which a client is not told the failures
_PASSES = 64  # bodies passed through at the same time; more wait


@dataclass(slots=True)
class _Request:
    """A client's request, and the findings about it.

    `proof` is the size under which upstream said that the repository has the blob.
    """

    upstream: PassThroughBody
    repository: Repository
    digest: Digest
    proof: int | None = None
    asked: bool = False  # upstream was, about the stored blob
    failures: int = 0  # of fetches that other requests began


class BlobService:
    """Answers requests for blobs of all upstreams. `missing_ttl` is in seconds."""

    def __init__(
        self,
        sources: Mapping[str, BlobSource],
        store: Store,
        fetches: FetchPool,
        possession: Possession,
        memory: MemoryCache,
        missing_ttl: float,
    ) -> None:
        self._sources = sources
        self._store = store
        self._fetches = fetches
        self._memory = memory
        self._belonging = BlobLinks(sources, store, possession, missing_ttl)
        self._kept = StoredBlobs(store, memory)
        self._passes = PassThrough(_PASSES, sources)

    def __repr__(self) -> str:
        return f"<BlobService: {self._fetches!r}, {self._belonging!r}>"

    async def close(self) -> None:
        """Stop the running questions and fetches."""
        await self._belonging.close()
        await self._fetches.close()

    def forget_refusals(self, upstream: str) -> None:
        """Forget the blobs that an upstream called missing, so that it is asked again."""
        self._belonging.forget_refusals(upstream)

    def peek(self, repository: Repository, digest: Digest) -> bytes | None:
        """Return a blob that is in memory, or None at once: the path of every warm config."""
        body = self._memory.get(digest)
        entry = self._store.catalog.get(digest)
        if body is None or entry is None or not self._belonging.known(repository, digest, entry):
            return None
        self._store.accounting.touch(digest)
        return body

    async def head(
        self, repository: Repository, digest: Digest, client: str = ""
    ) -> tuple[int, Outcome]:
        """Return a blob's size in bytes; raises RegistryError.

        The blob is fetched where upstream names its size neither to HEAD nor in a GET's headers.
        """
        self._belonging.refuse_missing(repository, digest)
        entry = self._store.catalog.get(digest)
        if entry is not None and self._belonging.known(repository, digest, entry):
            return entry.size, Outcome.HIT
        running = self._fetches.running(repository.upstream, digest)
        if running is not None and running.serves(repository) and running.size is not None:
            return running.size, Outcome.MISS
        within = self._belonging.within(repository, digest)
        outcome = Outcome.REVALIDATED if within else Outcome.MISS
        known = entry.size if entry is not None and within else None
        with suppress(UpstreamMisbehaved):  # only the bytes can tell
            size = await self._belonging.confirm(repository, digest, known)
            if size is not None:
                return size, outcome
        body = await self._open_fetch(self._request(repository, digest, client))
        try:
            return body.size, outcome
        finally:
            body.close()

    async def open(self, repository: Repository, digest: Digest, client: str = "") -> Body:
        """Open a blob for a client, to be sent and closed; raises RegistryError.

        There are three cases: the blob is stored, under way, or must be fetched. In each the
        repository must be known to have it. Otherwise upstream is asked, before any content of
        other repositories is looked at.
        """
        self._belonging.refuse_missing(repository, digest)
        request = self._request(repository, digest, client)
        while True:
            try:
                kept = await self._open_kept(request)
            except UpstreamMisbehaved as doubt:
                return await self._open_proof(request, doubt)
            # No await between the look into the store and the join: no second body.
            body = kept or await self._follow(request)
            if body is not None:
                return body

    def _request(self, repository: Repository, digest: Digest, client: str) -> _Request:
        source = self._sources[repository.upstream]
        upstream = PassThroughBody(source, repository, digest, self._passes, client)
        return _Request(upstream, repository, digest)

    async def _open_kept(self, request: _Request) -> StoredBody | None:
        """Open a stored blob that is linked to the repository; upstream is asked for a link.

        Raises UpstreamMisbehaved where only the whole blob can prove the link.
        """
        belonging, repository, digest = self._belonging, request.repository, request.digest
        while (entry := self._store.catalog.get(digest)) is not None:
            if not belonging.known(repository, digest, entry):
                if entry.media_type is not None:
                    return None
                if belonging.within(repository, digest):
                    await self._confirm(request, entry.size)
            body = await self._kept.open(digest)
            if body is None or belonging.known(repository, digest, body.entry):
                return _asked(body, request)
            if not belonging.within(repository, digest):
                return await self._claimed(request, body)
            body.close()  # evicted and fetched anew meanwhile, and of this upstream by now
        return None

    async def _confirm(self, request: _Request, size: int) -> None:
        """Link the blob by upstream's word; upstream is asked unless it gave that for this size."""
        request.asked = True
        if request.proof == size:
            self._store.accounting.link(request.digest, request.repository)
        else:
            confirm = self._belonging.confirm
            request.proof = await confirm(request.repository, request.digest, size)

    async def _claimed(self, request: _Request, body: StoredBody) -> StoredBody:
        """Link a blob of another upstream by this upstream's proof of possession."""
        request.asked = True
        try:
            await self._belonging.claim(request.repository, request.digest, body.file, body.size)
        except BaseException:
            body.close()
            raise
        body.outcome = Outcome.REVALIDATED
        return body

    async def _open_proof(self, request: _Request, doubt: UpstreamFailure) -> Body:
        """Fetch a stored blob once more, from a repository without a proof of possession.

        The whole blob proves what no shortcut did. If upstream sent wrong bytes before, or broke
        them off, no byte is passed on until the whole is proven.
        """
        body = await self._open_fetch(request)
        try:
            if isinstance(doubt, ContentWrong | RangeBroken):
                await body.proven()
        except BaseException:
            body.close()
            raise
        return body

    async def _open_fetch(self, request: _Request) -> FetchedBody:
        """Open a fetch, even of a blob that is stored."""
        while (body := await self._follow(request)) is None:
            pass
        return body

    async def _follow(self, request: _Request) -> FetchedBody | None:
        """Follow the running fetch, or a new one.

        None where the running one had to be waited for, or failed at another request's question:
        then the store may be looked at anew.
        """
        repository, digest = request.repository, request.digest
        running = self._fetches.running(repository.upstream, digest)
        fetch = self._join(request)
        if fetch is None and running is not None and request.proof is None:
            size = running.size
            request.asked = True
            request.proof = await self._belonging.shown(repository, digest, size)
            running = self._fetches.running(repository.upstream, digest)
            if running is None:
                return None
            fetch = None if request.proof is None else self._join(request)
        if fetch is None:
            await self._fetches.others_over(repository, digest)
            return None
        try:
            return await self._begin(request, fetch, collapsed=running is fetch)
        except RegistryError as failure:
            self._fetches.leave(fetch, repository)
            refusal = fetch.refusal(repository)
            if self._asks_again(request, failure, refusal, shared=running is fetch):
                return None
            if refusal is not None:
                await self._belonging.refused(repository, digest, refusal)
            raise
        except BaseException:
            self._fetches.leave(fetch, repository)
            raise

    def _join(self, request: _Request) -> Fetch | None:
        source = self._sources[request.repository.upstream]
        return self._fetches.join(source, request.repository, request.digest, request.proof)

    async def _begin(self, request: _Request, fetch: Fetch, *, collapsed: bool) -> FetchedBody:
        proven = fetch.proven
        await fetch.started(request.repository)
        size = fetch.size if fetch.size is not None else await request.upstream.size()
        self._belonging.fetched(request.repository, request.digest, proven=fetch.proven)
        # Proven and about to be published: this request costs upstream nothing.
        outcome = Outcome.HIT if collapsed and proven else Outcome.MISS
        return FetchedBody(
            self._fetches, fetch, size, request.upstream, outcome, collapsed=collapsed
        )

    def _asks_again(
        self,
        request: _Request,
        failure: RegistryError,
        refusal: RegistryError | None,
        *,
        shared: bool,
    ) -> bool:
        """Whether a failure may be about another request, so that one more fetch is tried.

        A fetch that ran before may fail at another request's question. A failure that says nothing
        of this repository is another's, unless upstream gives it to every request.
        """
        others = refusal is None and isinstance(failure, ContentWrong | UpstreamMisbehaved)
        again = isinstance(refusal, Displaced) or others or (shared and may_pass(failure))
        request.failures += 1
        if refusal is not None and not isinstance(refusal, Displaced):
            request.proof = None  # upstream's newer word
            return again and request.failures < _SHARED
        return again and request.failures <= _SHARED


def _asked(body: StoredBody | None, request: _Request) -> StoredBody | None:
    if body is not None and request.asked:
        body.outcome = Outcome.REVALIDATED
    return body
