"""The service of blobs: served where they are linked, from the cache or during their fetch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from mirror.content.blobs.bodies import Body
from mirror.content.blobs.client_request import ClientRequest
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.content.blobs.fetched_blobs import FetchedBlobs
from mirror.content.blobs.followers import FetchedBody
from mirror.content.blobs.linked_blobs import LinkedBlobs
from mirror.content.blobs.links import BlobLinks
from mirror.content.blobs.passthrough import PassThrough, PassThroughBody
from mirror.content.blobs.possession import Possession
from mirror.content.blobs.stored import StoredBlobs
from mirror.content.memory_cache import MemoryCache
from mirror.content.outcome import Outcome
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    ContentWrong,
    RangeBroken,
    UpstreamFailure,
    UpstreamMisbehaved,
)
from mirror.oci.names import Repository
from mirror.storage.store import Store
from mirror.upstream.blob_source import BlobSource

_PASSES = 64  # bodies passed through at the same time; more wait


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
        self._links = BlobLinks(sources, store, possession, missing_ttl)
        self._linked = LinkedBlobs(store, StoredBlobs(store, memory), self._links)
        self._fetched = FetchedBlobs(fetches, self._links)
        self._pass_through = PassThrough(_PASSES, sources)

    def __repr__(self) -> str:
        return f"<BlobService: {self._fetches!r}, {self._links!r}>"

    async def close(self) -> None:
        """Stop the running questions and fetches."""
        await self._links.close()
        await self._fetches.close()

    def forget_refusals(self, upstream: str) -> None:
        """Forget the blobs that an upstream called missing, so that it is asked again."""
        self._links.forget_refusals(upstream)

    def peek(self, repository: Repository, digest: Digest) -> bytes | None:
        """Return a blob that is in memory, or None at once: the path of every warm config."""
        body = self._memory.get(digest)
        entry = self._store.catalog.get(digest)
        if body is None or entry is None or not self._links.known(repository, digest, entry):
            return None
        self._store.touch(digest)
        return body

    async def head(
        self, repository: Repository, digest: Digest, client: str = ""
    ) -> tuple[int, Outcome]:
        """Return a blob's size in bytes; raises RegistryError.

        The blob is fetched where upstream names its size neither to HEAD nor in a GET's headers.
        """
        self._links.refuse_missing(repository, digest)
        entry = self._store.catalog.get(digest)
        if entry is not None and self._links.known(repository, digest, entry):
            return entry.size, Outcome.HIT
        size = self._fetches.size(repository, digest)
        if size is not None:
            return size, Outcome.MISS
        within = self._links.within(repository, digest)
        outcome = Outcome.REVALIDATED if within else Outcome.MISS
        known = entry.size if entry is not None and within else None
        with suppress(UpstreamMisbehaved):  # only the bytes can tell
            size = await self._links.confirm(repository, digest, known)
            if size is not None:
                return size, outcome
        body = await self._fetched.fetch(self._request(repository, digest, client))
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
        self._links.refuse_missing(repository, digest)
        request = self._request(repository, digest, client)
        while True:
            try:
                stored = await self._linked.open_stored(request)
            except UpstreamMisbehaved as doubt:
                return await self._open_proof(request, doubt)
            # No await between the look into the store and the attachment: no second body.
            body = stored or await self._fetched.attach(request)
            if body is not None:
                return body

    async def bring(
        self,
        repository: Repository,
        digest: Digest,
        client: str,
        following: Callable[[FetchedBody], None],
    ) -> bool:
        """Have a blob stored and linked as by a client's request; False if it cannot be stored.

        `following` gets the body of a running fetch. Raises RegistryError.
        """
        body = await self.open(repository, digest, client)
        try:
            if isinstance(body, FetchedBody):
                following(body)
                await body.proven()
        finally:
            body.close()
        await self._fetches.published(repository.upstream, digest)
        return self._store.catalog.belongs(digest, repository)

    def _request(self, repository: Repository, digest: Digest, client: str) -> ClientRequest:
        source = self._sources[repository.upstream]
        upstream = PassThroughBody(source, repository, digest, self._pass_through, client)
        return ClientRequest(upstream, repository, digest)

    async def _open_proof(self, request: ClientRequest, doubt: UpstreamFailure) -> Body:
        """Fetch a stored blob once more, from a repository without a proof of possession.

        The whole blob proves what no shortcut did. If upstream sent wrong bytes before, or broke
        them off, no byte is passed on until the whole is proven.
        """
        body = await self._fetched.fetch(request)
        try:
            if isinstance(doubt, ContentWrong | RangeBroken):
                await body.proven()
        except BaseException:
            body.close()
            raise
        return body
