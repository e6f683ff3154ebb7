"""Linked blobs: stored ones, served where they are linked; upstream is asked for links."""

from __future__ import annotations

from mirror.content.blobs.bodies import StoredBody
from mirror.content.blobs.client_request import ClientRequest
from mirror.content.blobs.links import BlobLinks
from mirror.content.blobs.stored import StoredBlobs
from mirror.content.outcome import Outcome
from mirror.storage.store import Store


class LinkedBlobs:
    """Opens stored blobs for repositories that are known, or found, to have them."""

    def __init__(self, store: Store, stored: StoredBlobs, links: BlobLinks) -> None:
        self._store = store
        self._stored = stored
        self._links = links

    def __repr__(self) -> str:
        return f"<LinkedBlobs: {self._stored!r}, {self._links!r}>"

    async def open_stored(self, request: ClientRequest) -> StoredBody | None:
        """Open a stored blob that is linked to the repository; None where there is none.

        Raises UpstreamMisbehaved where only the whole blob can prove the link.
        """
        links, repository, digest = self._links, request.repository, request.digest
        while (entry := self._store.catalog.get(digest)) is not None:
            if not links.known(repository, digest, entry):
                if entry.media_type is not None:
                    return None
                if links.within(repository, digest):
                    await self._confirm(request, entry.size)
            body = await self._stored.open(digest)
            if body is None:
                return None
            if not links.known(repository, digest, body.entry):
                if links.within(repository, digest):
                    body.close()  # evicted and fetched anew meanwhile, and of this upstream by now
                    continue
                await self._claim(request, body)
            body.outcome = Outcome.REVALIDATED if request.asked else Outcome.HIT
            return body
        return None

    async def _confirm(self, request: ClientRequest, size: int) -> None:
        """Link the blob by upstream's word; upstream is asked unless it gave that for this size."""
        request.asked = True
        if request.proof == size:
            self._store.link(request.digest, request.repository)
        else:
            confirm = self._links.confirm
            request.proof = await confirm(request.repository, request.digest, size)

    async def _claim(self, request: ClientRequest, body: StoredBody) -> None:
        """Link a blob of another upstream by this upstream's proof of possession."""
        request.asked = True
        try:
            await self._links.claim(request.repository, request.digest, body.reader, body.size)
        except BaseException:
            body.close()
            raise
