"""A page of a listing: where the next one is, and its bytes on their way."""

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
from mirror.upstream.answers import Kind
from mirror.upstream.faults import named_faults

# What routers and gateways answer for a path that they do not know.
_NO_API = frozenset({400, 404, 405, 406, 501})
_LONGEST_LINK = 16 * 1024  # characters of all links of an answer


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page. `following` is the next one, None at the end."""

    body: bytes
    media_type: str
    following: Paging | None


class PageBody:
    """A page on its way, to be closed; `held` is let go then. `following` as above."""

    def __init__(
        self, response: aiohttp.ClientResponse, count: Callable[[int], None], held: ExitStack
    ) -> None:
        self.media_type = responses.media_type(response)
        self.following = _following(response)
        self._response = response
        self._count = count
        self._held = held

    async def read(self) -> bytes:
        """Return what has arrived, at least a byte; nothing at the end. Raises UpstreamFailure."""
        with named_faults(self._response.url):
            data = await self._response.content.readany()
        self._count(len(data))
        return data

    async def whole(self, cap: int) -> Page:
        """Read it to the end; raises UpstreamMisbehaved beyond `cap` bytes."""
        body = bytearray()
        while data := await self.read():
            body += data
            if len(body) > cap:
                raise UpstreamMisbehaved(f"upstream's page is larger than {cap} bytes")
        return Page(bytes(body), self.media_type, self.following)

    def close(self) -> None:
        """Let go of the connection; one on which more would come is closed."""
        self._held.close()


def accept(kind: Kind) -> dict[str, str]:
    """Return the headers that say what is wanted."""
    return {hdrs.ACCEPT: media.OCI_INDEX} if kind == "referrers" else {}


def has_no_api(kind: Kind, response: aiohttp.ClientResponse) -> bool:
    """Whether this is the answer of a registry without the API for referrers."""
    return kind == "referrers" and response.status in _NO_API


def check(response: aiohttp.ClientResponse, kind: Kind, missing: ManifestUnknown) -> None:
    """Raise `missing` where there is no such listing; else as for any answer."""
    if has_no_api(kind, response):
        raise missing
    responses.check(response, missing)


def _following(response: aiohttp.ClientResponse) -> Paging | None:
    """Read the next page; a list whose rest cannot be asked for is no whole list."""
    links = response.headers.getall(hdrs.LINK, [])
    if sum(map(len, links)) > _LONGEST_LINK:
        raise UpstreamMisbehaved(f"upstream's Link is longer than {_LONGEST_LINK} characters")
    try:
        return paging.following(links)
    except PageInvalid as error:
        raise UpstreamMisbehaved(f"upstream's Link is not understood: {error.message}") from None
