"""The body of a blob response: its position in the blob, and its bytes as they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import hdrs

from mirror.oci import ranges
from mirror.oci.digest import Digest
from mirror.oci.errors import UpstreamFailure, UpstreamMisbehaved, UpstreamUnavailable
from mirror.upstream.blob_source import WantedBytes
from mirror.upstream.errors import named_faults
from mirror.upstream.gzip_body import GzipBody
from mirror.upstream.responses import is_packed, is_page
from mirror.util.rate_limit import BandwidthLimit


@dataclass(frozen=True, slots=True)
class BlobPart:
    """The bytes of a blob from `start` on. `size` is the whole blob's, if known."""

    start: int
    size: int | None


class BlobBody:
    """The bytes of a blob as they arrive, from `start` on. `size` is the whole blob's, if known."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        part: BlobPart,
        count: Callable[[int], None],
        bandwidth_limit: BandwidthLimit,
        *,
        unpack: bool = False,
    ) -> None:
        self._response = response
        self._count = count
        self._bandwidth_limit = bandwidth_limit
        self._fault: UpstreamFailure | None = None
        self._packed = GzipBody() if unpack and is_packed(response) else None
        self.start = part.start
        self.size = part.size

    async def read(self) -> bytes:
        """Return the bytes received, at least one; empty at the end. Raises UpstreamFailure."""
        if self._packed is None:
            return await self._read()
        while True:
            piece, cut_short = self._packed.some()
            if cut_short:
                await asyncio.sleep(0)  # yield: this loop may go on without waiting for data
            if piece:
                return piece
            if cut_short:
                continue
            data = await self._read()
            if not data and not self._packed.whole:
                raise UpstreamUnavailable("upstream ended a gzip-compressed blob too early")
            if not data:
                return self._packed.end()
            self._packed.feed(data)

    async def _read(self) -> bytes:
        if self._fault is not None:
            raise self._fault
        await self._bandwidth_limit.wait()
        try:
            data = await self._next()
        except UpstreamFailure as fault:
            self._fault, data = fault, self._rest()
            if not data:
                raise
        self._count(len(data))
        self._bandwidth_limit.spend(len(data))
        return data

    async def _next(self) -> bytes:
        with named_faults(self._response.url):
            if hdrs.TRANSFER_ENCODING in self._response.headers:  # chunks may be of one byte
                return await self._response.content.readany()
            # readchunk returns the parser's own bytes; readany would join them into a copy first.
            data, _ = await self._response.content.readchunk()
        return data

    def _rest(self) -> bytes:
        """Return the bytes received before the fault: aiohttp keeps them behind its exception."""
        content = self._response.content
        content.set_exception(None)  # type: ignore[arg-type]  # no other way to clear it
        return content.read_nowait(-1)


def hinted_size(response: aiohttp.ClientResponse, digest: Digest) -> int | None:
    """Return the blob size in a response's headers; None if they are not credible.

    Not credible are a web page, a size of 0 unless the digest is that of the empty blob, and a
    compressed body, which has a different length.
    """
    size = response.content_length
    if (
        response.status != 200
        or is_page(response)
        or is_packed(response)
        or (size == 0 and not digest.proves(b""))
    ):
        return None
    return size


def announced_size(
    response: aiohttp.ClientResponse, digest: Digest, size: int | None
) -> int | None:
    """Return the blob size in the headers of a successful GET, or `size` if they have none.

    Raises UpstreamMisbehaved for a web page, and for headers that match neither the known size nor
    the digest: an error document may have status 200, too, and only the bytes could prove the blob.
    """
    announced = read_whole(response).size
    if announced == 0 and not digest.proves(b""):
        announced = None
    if announced is not None and announced == size:
        return size
    named = Digest.from_header(response.headers.get("Docker-Content-Digest")) == digest
    if is_page(response) or (size is not None and (announced is not None or not named)):
        raise UpstreamMisbehaved("upstream's response headers do not match the blob")
    return size if announced is None else announced


def read_part(response: aiohttp.ClientResponse, wanted: WantedBytes) -> BlobPart | None:
    """Return the range in the response to a range request; None if bytes are missing from it.

    The whole blob is as good, if the host ignores ranges (RFC 9110, 14.2).
    """
    if is_packed(response):  # a range of the compressed bytes is no range of the blob
        return None
    if response.status == 206:
        return _read_range(response, wanted)
    length, size = response.content_length, wanted.size
    if response.status not in (200, 203) or (length is not None and length < wanted.start):
        return None
    agrees = not is_page(response) if size is None or length is None else length == size
    return BlobPart(0, length) if agrees else None


def _read_range(response: aiohttp.ClientResponse, wanted: WantedBytes) -> BlobPart | None:
    span, size = ranges.parse_content_range(_content_range(response)) or (None, None)
    if span is None or size is None or response.content_length not in (None, span.length):
        return None
    stop = size if wanted.stop is None else min(wanted.stop, size)
    right = span.start == wanted.start and span.stop >= stop and wanted.size in (None, size)
    return BlobPart(span.start, size) if right else None


def read_whole(response: aiohttp.ClientResponse) -> BlobPart:
    """Return the range in the response to a plain GET: the whole, or its beginning under a 206.

    Raises UpstreamMisbehaved for a range from elsewhere in the blob.
    """
    if is_packed(response):
        return BlobPart(0, None)
    found = ranges.parse_content_range(_content_range(response))
    if response.status != 206 or found is None:
        return BlobPart(0, response.content_length)
    span, size = found
    if span.start:
        raise UpstreamMisbehaved("upstream sent a range of a blob to a request for the whole")
    return BlobPart(0, size or response.content_length)


def _content_range(response: aiohttp.ClientResponse) -> str:
    return response.headers.get(hdrs.CONTENT_RANGE, "")
