"""Fetched blobs: each request is attached to the fetch that brings its blob."""

from __future__ import annotations

from mirror.content.blobs.client_request import ClientRequest
from mirror.content.blobs.fetch_pool import FetchPool, OtherFetch
from mirror.content.blobs.followers import FetchedBody, Follower
from mirror.content.blobs.links import BlobLinks
from mirror.oci.errors import RegistryError


class FetchedBlobs:
    """Opens blobs that are under way, or must be fetched."""

    def __init__(self, fetches: FetchPool, links: BlobLinks) -> None:
        self._fetches = fetches
        self._links = links

    def __repr__(self) -> str:
        return f"<FetchedBlobs: {self._fetches!r}>"

    async def fetch(self, request: ClientRequest) -> FetchedBody:
        """Open a blob from upstream, even if it is stored; raises RegistryError."""
        while (body := await self.attach(request)) is None:
            pass
        return body

    async def attach(self, request: ClientRequest) -> FetchedBody | None:
        """Open a blob by the running fetch, or a new one; raises RegistryError.

        None after a wait for another fetch, or its failure: the store may be looked at anew.
        """
        attached = self._fetches.attach(request.repository, request.digest, request.proof)
        if isinstance(attached, OtherFetch):
            await self._pass_other(request, attached)
            return None
        try:
            return await self._begin(request, attached)
        except RegistryError as failure:
            if request.retries(failure, attached):
                return None
            if attached.refusal is not None:
                await self._links.refused(request.repository, request.digest, attached.refusal)
            raise

    async def _pass_other(self, request: ClientRequest, other: OtherFetch) -> None:
        """Prove that the repository has the blob too, or wait for the end of the other fetch."""
        repository, digest = request.repository, request.digest
        if other.needs_proof:
            request.asked = True
            request.proof = await self._links.shown(repository, digest, other.size)
        if request.proof is None or not other.needs_proof:
            await self._fetches.others_over(repository, digest)

    async def _begin(self, request: ClientRequest, follower: Follower) -> FetchedBody:
        """Wait until the response may begin; raises RegistryError."""
        fetch = follower.fetch
        try:
            await follower.started()
            size = fetch.size if fetch.size is not None else await request.upstream.size()
        except BaseException:
            follower.leave()
            raise
        self._links.fetched(request.repository, request.digest, proven=fetch.proven)
        return FetchedBody(follower, size, request.upstream)
