"""Reading upstream's responses: what is an answer, what is a fault, what must not be believed."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from aiohttp import hdrs

from mirror.oci import media, ranges
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    ContentWrong,
    Denied,
    DigestInvalid,
    RegistryError,
    UpstreamFailure,
    UpstreamMisbehaved,
    UpstreamUnavailable,
    shown,
)
from mirror.oci.manifest import MAX_SIZE, Descriptor
from mirror.upstream.faults import named_faults
from mirror.upstream.pace import Pace


class BlobBody:
    """A blob's bytes on their way, from `start` on. `size` is the whole blob's, if known."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        start: int,
        size: int | None,
        count: Callable[[int], None],
        pace: Pace,
    ) -> None:
        self._response = response
        self._count = count
        self._pace = pace
        self._fault: UpstreamFailure | None = None
        self.start = start
        self.size = size

    async def read(self) -> bytes:
        """Return what has arrived, at least a byte; nothing at the end. Raises UpstreamFailure."""
        if self._fault is not None:
            raise self._fault
        await self._pace.wait()
        try:
            data = await self._next()
        except UpstreamFailure as fault:
            self._fault, data = fault, self._rest()
            if not data:
                raise
        self._count(len(data))
        self._pace.spend(len(data))
        return data

    async def _next(self) -> bytes:
        with named_faults(self._response.url):
            # readchunk hands over what the parser made; readany would copy it together first.
            data, between = await self._response.content.readchunk()
            while between and not data:
                data, between = await self._response.content.readchunk()
        return data

    def _rest(self) -> bytes:
        """Return what had arrived before the fault: aiohttp keeps it, but behind its exception."""
        content = self._response.content
        content.set_exception(None)  # type: ignore[arg-type]  # there is no other way past it
        return content.read_nowait(-1)


def refuse_faults(response: aiohttp.ClientResponse, upstream: str) -> None:
    """Raise UpstreamUnavailable where upstream could not answer. What is in the body is no matter.

    An error's status says all there is, be its body a document or a web page.
    """
    status = response.status
    if status >= 500 or status == 408:
        raise UpstreamUnavailable(f"upstream {upstream} answers {status}")


def says_spent(response: aiohttp.ClientResponse) -> bool:
    """Whether a 429 is a registry's own: an OCI document (TOOMANYREQUESTS).

    Whatever stands before a registry counts requests, and writes something else: plain text before
    Docker Hub (docker/hub-feedback #1907), web pages elsewhere.
    """
    media_type = media.bare(response.headers.get(hdrs.CONTENT_TYPE, ""))
    return response.status == 429 and media_type == media.JSON


def check(response: aiohttp.ClientResponse, missing: RegistryError) -> None:
    """Raise `missing` for a 404, Denied for a 401 or 403, UpstreamMisbehaved for the unexpected.

    A success is none by its headers: content is proven by its digest, a listing is read.
    """
    status = response.status
    if 200 <= status < 300:
        return
    if status == 404:
        raise missing
    if status in (401, 403):
        raise Denied("upstream denies access: the repository does not exist, or is private")
    if status == 416:  # what we have is as long as the blob, or longer
        raise ContentWrong("upstream has nothing behind what came before")
    raise UpstreamMisbehaved(f"upstream answers {status}")


def digest(response: aiohttp.ClientResponse) -> Digest | None:
    """Return the digest that upstream promises, None if it promises none."""
    text = response.headers.get("Docker-Content-Digest")
    try:
        return None if text is None else Digest.parse(text.strip())
    except DigestInvalid:
        raise UpstreamMisbehaved(f"upstream names the digest {shown(text or '')}") from None


def descriptor(response: aiohttp.ClientResponse) -> Descriptor | None:
    """Read a HEAD's headers; None where they do not say all that a descriptor holds."""
    promised = digest(response)
    media_type = media.bare(response.headers.get(hdrs.CONTENT_TYPE, ""))
    size = response.content_length
    if promised is None or media_type not in media.KNOWN or not size or size > MAX_SIZE:
        return None
    return Descriptor(promised, media_type, size)


def blob_body(
    response: aiohttp.ClientResponse, start: int, count: Callable[[int], None], pace: Pace
) -> BlobBody:
    """Check that the body begins where it was asked to, or at 0 if ranges were ignored."""
    if response.status == 200:
        return BlobBody(response, 0, response.content_length, count, pace)
    content_range = ranges.parse_content_range(response.headers.get(hdrs.CONTENT_RANGE, ""))
    if content_range is None or content_range[0].start != start:
        raise UpstreamMisbehaved("upstream sends another range than it was asked for")
    return BlobBody(response, start, content_range[1], count, pace)
