"""A page of a listing: its bytes as they arrive, and the link to the next page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import aiohttp
from aiohttp import hdrs

from mirror.oci import media, paging
from mirror.oci.errors import ManifestUnknown, PageInvalid, UpstreamMisbehaved
from mirror.oci.paging import Paging
from mirror.upstream import responses
from mirror.upstream.errors import named_faults
from mirror.upstream.telemetry import Kind

# Statuses of routers and gateways for an unknown path.
_NO_API = frozenset({400, 404, 405, 406, 501})
_LONGEST_LINK = 16 * 1024  # characters of all links of a response


@dataclass(frozen=True, slots=True)
class ListingPage:
    """A complete page. `following` is the next one, None at the end."""

    body: bytes
    media_type: str
    following: Paging | None


class ListingPageBody:
    """A page as it arrives. Closing it releases `held`. `following` is as in `ListingPage`."""

    def __init__(
        self, response: aiohttp.ClientResponse, count: Callable[[int], None], held: ExitStack
    ) -> None:
        self.media_type = responses.media_type(response)
        self.following = _following(response)
        self._response = response
        self._count = count
        self._held = held

    async def read(self) -> bytes:
        """Return the bytes received, at least one; empty at the end. Raises UpstreamFailure."""
        with named_faults(self._response.url):
            data = await self._response.content.readany()
        self._count(len(data))
        return data

    async def whole(self, cap: int) -> ListingPage:
        """Read to the end; raises UpstreamMisbehaved beyond `cap` bytes."""
        body = bytearray()
        while data := await self.read():
            body += data
            if len(body) > cap:
                raise UpstreamMisbehaved(f"upstream's page is larger than {cap} bytes")
        return ListingPage(bytes(body), self.media_type, self.following)

    def close(self) -> None:
        """Release the connection; it is closed if the body is incomplete."""
        self._held.close()


def accept(kind: Kind) -> dict[str, str]:
    """Return the headers of a request for this kind of listing."""
    return {hdrs.ACCEPT: media.OCI_INDEX} if kind == "referrers" else {}


def has_no_api(kind: Kind, response: aiohttp.ClientResponse) -> bool:
    """Whether the response is from a registry without the referrers API."""
    return kind == "referrers" and response.status in _NO_API


def check(response: aiohttp.ClientResponse, kind: Kind, missing: ManifestUnknown) -> None:
    """Raise `missing` if there is no such listing; otherwise check as any response."""
    if has_no_api(kind, response):
        raise missing
    responses.check(response, missing)


def _following(response: aiohttp.ClientResponse) -> Paging | None:
    """Return the next page; a list with an unreachable rest counts as wrong."""
    links = response.headers.getall(hdrs.LINK, [])
    if sum(map(len, links)) > _LONGEST_LINK:
        raise UpstreamMisbehaved(
            f"upstream's Link header is longer than {_LONGEST_LINK} characters"
        )
    try:
        return paging.following(links)
    except PageInvalid as error:
        raise UpstreamMisbehaved(f"upstream's Link header is invalid: {error.message}") from None
