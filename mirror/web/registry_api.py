"""The registry API, read only: answers by route (distribution-spec, "Endpoints")."""

from __future__ import annotations

import json
from urllib.parse import urlencode
from weakref import WeakValueDictionary

from aiohttp import hdrs, web

from mirror.budget.demand import Demand
from mirror.content.blobs.service import BlobService
from mirror.content.blobs.sinks import while_connected
from mirror.content.listings.service import ListingService
from mirror.content.listings.tag_lists import TagStream
from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.manifests.result import ManifestResult
from mirror.content.outcome import STALE_TEXTS, Outcome
from mirror.content.repositories import Repositories
from mirror.identity.client import ClientIdentity
from mirror.oci import media, ranges
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError, TooManyRequests, Unsupported
from mirror.oci.paging import Paging
from mirror.oci.ranges import Span
from mirror.web import response_headers
from mirror.web.error_reply import refusal
from mirror.web.limit_headers import LimitHeaders
from mirror.web.reply import AT_ONCE, UNDIVIDED, InMemoryBody, Reply, StreamedBody
from mirror.web.router import (
    ApiPath,
    ApiRoot,
    BlobPath,
    CatalogPath,
    ManifestPath,
    ReferrersPath,
    TagsPath,
)
from mirror.web.sending import Peer


class RegistryApi:
    """Answers requests below `/v2/`; raises RegistryError where there is no answer."""

    def __init__(
        self,
        manifests: ManifestResolver,
        blobs: BlobService,
        listings: ListingService,
        repositories: Repositories,
        demand: Demand,
        limits: LimitHeaders,
    ) -> None:
        self._manifests = manifests
        self._blobs = blobs
        self._listings = listings
        self._repositories = repositories
        self._demand = demand
        self._limits = limits
        self._being_sent: WeakValueDictionary[Digest, InMemoryBody] = WeakValueDictionary()

    async def answer(
        self, request: web.BaseRequest, path: ApiPath, identity: ClientIdentity
    ) -> Reply:
        """Answer a request of an admitted client, by the kind of its path."""
        match path:
            case ManifestPath():
                return await self.manifest(request, path, identity)
            case BlobPath():
                return await self.blob(request, path, identity)
            case TagsPath():
                return await self.tags(request, path, identity)
            case ReferrersPath():
                return await self.referrers(request, path, identity)
            case CatalogPath():
                return await self.catalog(path, identity)
            case ApiRoot():
                return _root(path)

    def at_once(
        self, path: ManifestPath | BlobPath, identity: ClientIdentity, method: str
    ) -> tuple[str, bytes] | None:
        """Return header lines and body of an answer from memory, to a request without conditions.

        The request counts as answered. None if the content is not in memory, or too large to be
        written in one piece.
        """
        named = response_headers.namespace(path.namespace)
        if isinstance(path, BlobPath):
            data = self._blobs.peek(path.repository, path.digest)
            if data is None or len(data) > UNDIVIDED:
                return None
            return response_headers.blob(path.digest, Outcome.HIT) + named, data
        found = self._manifests.peek(path.repository, path.reference)
        if found is None or found.body is None or len(found.body) > UNDIVIDED:
            return None
        return response_headers.manifest(found) + self._counted(
            path, method, identity, found
        ) + named, found.body

    async def manifest(
        self, request: web.BaseRequest, path: ManifestPath, identity: ClientIdentity
    ) -> Reply:
        """Answer for a manifest or index, by tag or digest.

        A refused pull has the headers of the rate limit, too.
        """
        try:
            return await self._manifest(request, path, identity)
        except TooManyRequests as error:
            limit = self._limits.lines(path.repository.upstream, identity, warm=False)
            return refusal(error, namespace=path.namespace, more=limit)

    async def _manifest(
        self, request: web.BaseRequest, path: ManifestPath, identity: ClientIdentity
    ) -> Reply:
        known = request.headers.get(hdrs.IF_NONE_MATCH)
        found = self._manifests.peek(path.repository, path.reference)
        if found is None:
            # A client that has a copy may not need another: a HEAD tells, and is not counted.
            head = request.method == hdrs.METH_HEAD or known is not None
            found = await self._find(path, identity, head=head)
        unchanged = response_headers.matches(known, found.descriptor.digest)
        if found.body is None and not unchanged and request.method != hdrs.METH_HEAD:
            found = await self._find(path, identity, head=False)
        limit = self._counted(path, request.method, identity, found)
        return self._found(path, found, limit, unchanged=unchanged)

    def _counted(
        self, path: ManifestPath, method: str, identity: ClientIdentity, found: ManifestResult
    ) -> str:
        """Count an answered request for a manifest; returns the headers of the rate limit."""
        upstream = path.repository.upstream
        if method == hdrs.METH_GET:
            self._demand.asked[upstream] += 1
        if found.why is not None:
            self._demand.stale[upstream, found.why] += 1
        return self._limits.lines(upstream, identity, warm=found.outcome is Outcome.HIT)

    async def _find(
        self, path: ManifestPath, identity: ClientIdentity, *, head: bool
    ) -> ManifestResult:
        return await self._manifests.get(path.repository, path.reference, identity.party, head=head)

    def _found(
        self, path: ManifestPath, found: ManifestResult, limit: str, *, unchanged: bool
    ) -> Reply:
        descriptor = found.descriptor
        return Reply(
            304 if unchanged else 200,
            response_headers.manifest(found) + limit + response_headers.namespace(path.namespace),
            length=descriptor.size,
            body=self._shared(descriptor.digest, found.body or b""),
            outcome=found.outcome,
            why="" if found.why is None else STALE_TEXTS[found.why],
        )

    def _shared(self, digest: Digest, body: bytes) -> bytes | InMemoryBody:
        """Return the body that other replies for this digest are sending, if there are any.

        A client that does not read would otherwise hold a separate copy, fresh from the disk.
        """
        if len(body) <= AT_ONCE:
            return body
        return self._being_sent.setdefault(digest, InMemoryBody(body))

    async def blob(
        self, request: web.BaseRequest, path: BlobPath, identity: ClientIdentity
    ) -> Reply:
        """Answer for a blob: its headers, all of it, or a range."""
        unchanged = response_headers.matches(request.headers.get(hdrs.IF_NONE_MATCH), path.digest)
        if request.method == hdrs.METH_HEAD or unchanged:
            async with while_connected(Peer(request.transport)):
                size, outcome = await self._blobs.head(
                    path.repository, path.digest, identity.client
                )
            return Reply(
                304 if unchanged else 200,
                response_headers.blob(path.digest, outcome)
                + response_headers.namespace(path.namespace),
                length=size,
                outcome=outcome,
            )
        data = self._blobs.peek(path.repository, path.digest)
        if data is not None:
            return _small_blob(request, path, data)
        return await self._large_blob(request, path, identity)

    async def _large_blob(
        self, request: web.BaseRequest, path: BlobPath, identity: ClientIdentity
    ) -> Reply:
        async with while_connected(Peer(request.transport)):
            body = await self._blobs.open(path.repository, path.digest, identity.client)
        try:
            span = _span(request, path, body.size)
        except RegistryError:
            body.close()
            raise
        wanted = span or Span(0, body.size)
        headers = response_headers.blob(path.digest, body.outcome, collapsed=body.collapsed)
        return Reply(
            206 if span else 200,
            headers + _content_range(span, body.size) + response_headers.namespace(path.namespace),
            length=wanted.length,
            body=StreamedBody(body, wanted),
            outcome=body.outcome,
        )

    async def tags(
        self, request: web.BaseRequest, path: TagsPath, identity: ClientIdentity
    ) -> Reply:
        """Answer with a page of tags and, if there are more, a link to the next page."""
        async with while_connected(Peer(request.transport)):
            listed = await self._listings.tags(path.repository, path.paging, identity.party)
        page, more = listed.answer, _more(path, listed.answer.following)
        headers = response_headers.listing(media.JSON, listed) + more
        if isinstance(page, TagStream):
            return Reply(200, headers, length=None, body=page, outcome=listed.outcome)
        return Reply(200, headers, length=len(page.body), body=page.body, outcome=listed.outcome)

    async def catalog(self, path: CatalogPath, identity: ClientIdentity) -> Reply:
        """Answer with a page of the repositories that are kept, as far as the caller reads them."""
        names, following = await self._repositories.page(
            identity, path.upstream, path.own, path.paging
        )
        body = json.dumps({"repositories": names}, separators=(",", ":")).encode()
        headers = response_headers.own(media.JSON) + _more(path, following)
        return Reply(200, headers, length=len(body), body=body)

    async def referrers(
        self, request: web.BaseRequest, path: ReferrersPath, identity: ClientIdentity
    ) -> Reply:
        """Answer with an index of the referrers of a digest, filtered on request.

        HEAD is refused: the length is known only with the body, which may cost a pull.
        """
        if request.method == hdrs.METH_HEAD:
            raise Unsupported("referrers can only be requested by GET", allow="GET")
        listed = await self._listings.referrers(
            path.repository, path.digest, path.paging, identity.party
        )
        more = _more(path, listed.answer.following)
        if path.artifact_types:
            more += response_headers.lines({"OCI-Filters-Applied": "artifactType"})
        body = await listed.answer.index(path.artifact_types)
        headers = response_headers.listing(media.OCI_INDEX, listed) + more
        return Reply(200, headers, length=len(body), body=body, outcome=listed.outcome)


def _root(path: ApiRoot) -> Reply:
    headers = response_headers.own(media.JSON) + response_headers.namespace(path.namespace)
    return Reply(200, headers, length=2, body=b"{}")


def _small_blob(request: web.BaseRequest, path: BlobPath, data: bytes) -> Reply:
    span = _span(request, path, len(data))
    body = memoryview(data)[span.start : span.stop] if span else data
    headers = response_headers.blob(path.digest, Outcome.HIT) + response_headers.namespace(
        path.namespace
    )
    return Reply(
        206 if span else 200,
        headers + _content_range(span, len(data)),
        length=len(body),
        body=body,
        outcome=Outcome.HIT,
    )


def _span(request: web.BaseRequest, path: BlobPath, size: int) -> Span | None:
    """Return the requested range, None for the whole; raises RangeInvalid, RangeMalformed."""
    header = request.headers.get(hdrs.RANGE)
    if header is None or not response_headers.if_range(
        request.headers.get(hdrs.IF_RANGE), path.digest
    ):
        return None
    return ranges.parse(header, size)


def _content_range(span: Span | None, size: int) -> str:
    return "" if span is None else f"Content-Range: {span.content_range(size)}\r\n"


def _more(path: TagsPath | ReferrersPath | CatalogPath, following: Paging | None) -> str:
    """Return a Link header without a host, as clients may know the mirror by several names.

    Its path is that of the request.
    """
    if following is None:
        return response_headers.namespace(path.namespace)
    own = [("ns", path.namespace)] if path.namespace else []
    if isinstance(path, ReferrersPath):
        own += [("artifactType", each) for each in path.artifact_types]
    query = "&".join([following.query(), *([urlencode(own)] if own else [])])
    link = f'<{path.address}?{query}>; rel="next"'
    return response_headers.lines({"Link": link}) + response_headers.namespace(path.namespace)
