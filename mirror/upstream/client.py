"""The client of one upstream registry: all requests that the registry accepts."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import (
    ExitStack,
    asynccontextmanager,
    closing,
)
from datetime import datetime
from typing import Literal, NamedTuple

import aiohttp
from yarl import URL

from mirror.oci import manifest
from mirror.oci.errors import (
    ManifestUnknown,
)
from mirror.oci.names import Reference
from mirror.oci.paging import Paging
from mirror.upstream import pages
from mirror.upstream.blobs import BlobRequester
from mirror.upstream.errors import deadline
from mirror.upstream.manifests import ManifestRequester, accept
from mirror.upstream.pages import ListingPage, ListingPageBody
from mirror.upstream.telemetry import Kind, Observer, read_date
from mirror.upstream.transport import Size
from mirror.upstream.upstream_request import HEAD_SHARE, UpstreamRequest

_MAX_PAGE = manifest.MAX_SIZE  # bytes of one page of tags or referrers
_FIRST = Paging()


class RootAnswer(NamedTuple):
    """The answer to `/v2/`: its status, and upstream's clock, if it names its time."""

    status: int
    date: datetime | None


class RegistryClient(ManifestRequester, BlobRequester):
    """Requests to one upstream for manifests, blobs and listings, and checks of access to them.

    `name` is the name of a repository, without its upstream.
    """

    async def open_page(
        self, kind: Kind, name: str, path: str, paging: Paging, size: Size = "small"
    ) -> ListingPageBody:
        """Open a page of tags or referrers, to be closed; `path` follows the repository's `name`.

        Raises ManifestUnknown, Denied, or UpstreamFailure.
        """
        query = paging.query()
        url = URL(f"{self.url(name, path)}{'?' if query else ''}{query}", encoded=True)
        request = UpstreamRequest("GET", kind, name, url, pages.accept(kind), size)
        with ExitStack() as held:
            if size == "large":
                await self.transport.large.acquire()
                held.callback(self.transport.large.release)
            response = await self.ask(request)
            held.callback(response.close)
            pages.check(response, kind, ManifestUnknown(f"upstream has no {kind} of {name}"))
            return ListingPageBody(response, self.count, held.pop_all())

    async def get_page(
        self, kind: Kind, name: str, path: str, paging: Paging = _FIRST
    ) -> ListingPage:
        """Fetch a whole page, of 4 MiB at most; raises as `open_page` does."""
        with closing(await self.open_page(kind, name, path, paging)) as page:
            async with deadline(self.transport.timeouts.silence_timeout, self.origin.url):
                return await page.whole(_MAX_PAGE)

    @asynccontextmanager
    async def answer(
        self,
        method: Literal["HEAD", "GET"],
        kind: Literal["manifest", "blob"],
        name: str,
        reference: Reference,
        observe: Observer,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Request content to learn whether access is granted; no status is an error here.

        `observe` is told of each response: one to a HEAD of a manifest may name a pull limit.
        Raises Denied if the token server denies access, UpstreamFailure if no response came.
        """
        url = self.url(name, f"{kind}s", reference)
        headers = accept() if kind == "manifest" else {}
        most = self.transport.timeouts.answer_timeout * HEAD_SHARE if method == "HEAD" else math.inf
        request = UpstreamRequest(method, kind, name, url, headers, observe=observe, most=most)
        async with await self.ask(request) as response:
            yield response

    async def answers_root(self) -> bool:
        """Whether the registry answers `/v2/` with 200; raises UpstreamFailure."""
        return await self.root_status() == 200

    async def root_status(self) -> int:
        """Return the status of `/v2/`; raises as `root` does."""
        return (await self.root()).status

    async def root(self) -> RootAnswer:
        """Request `/v2/`, with a new token for no repository.

        Raises Denied if the login is refused, UpstreamFailure if no response came.
        """
        self.forget("")
        url = URL(f"{str(self.origin.url).rstrip('/')}/v2/", encoded=True)
        async with await self.ask(UpstreamRequest("GET", "token", "", url)) as response:
            return RootAnswer(response.status, read_date(response.headers.get("Date", "")))

    def forget(self, name: str) -> None:
        """Have the next request for a repository use a new token."""
        self._login.forget(self.origin.named(name))
