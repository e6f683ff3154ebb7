"""Blobs at one upstream: HEAD and Range as shortcuts, and a plain GET if they decide nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import (
    asynccontextmanager,
    suppress,
)
from dataclasses import replace

import aiohttp
from aiohttp import hdrs

from mirror.oci.digest import Digest
from mirror.oci.errors import (
    BlobUnknown,
    RangeRefused,
    RegistryError,
    UpstreamFailure,
    UpstreamUnreachable,
)
from mirror.upstream import responses
from mirror.upstream.blob_body import (
    BlobBody,
    BlobPart,
    announced_size,
    hinted_size,
    read_part,
    read_whole,
)
from mirror.upstream.blob_source import WantedBytes
from mirror.upstream.requester import Requester
from mirror.upstream.upstream_request import HEAD_SHARE, UpstreamRequest


class BlobRequester(Requester):
    """Requests for blobs, with a memory of which shortcuts work; a `BlobSource`."""

    @property
    def resume_timeout(self) -> float:
        """For how long, in seconds, a body that broke off is to be resumed without a byte."""
        return self.transport.timeouts.resume_timeout

    async def head_blob(self, name: str, digest: Digest) -> int | None:
        """Send a HEAD for a blob's size in bytes, as a hint. None if only a GET can tell."""
        if not self.shortcuts.worth(self.origin.url, "head blob"):
            return None
        url = self.url(name, "blobs", digest)
        most = self.transport.timeouts.answer_timeout * HEAD_SHARE
        request = UpstreamRequest("HEAD", "blob", name, url, most=most)
        with suppress(UpstreamFailure):
            async with await self.ask(request) as response:
                return hinted_size(response, digest)
        return None

    async def find_blob(self, name: str, digest: Digest, size: int | None = None) -> int | None:
        """Check whether a repository has a blob; returns its size in bytes, None if not reported.

        If HEAD does not confirm it, or reports a size other than `size`, a GET that is closed after
        its headers decides. Raises BlobUnknown, Denied, or UpstreamFailure; UpstreamMisbehaved if
        only the blob's bytes could prove it.
        """
        hint = await self.head_blob(name, digest)
        if hint is not None and size in (None, hint):
            self.shortcuts.worked(self.origin.url, "head blob")
            return hint
        request = UpstreamRequest("GET", "blob", name, self.url(name, "blobs", digest))
        async with await self.ask(request) as response:
            responses.check(response, _blob_unknown(request))
            announced = announced_size(response, digest, size)
        self.shortcuts.failed(self.origin.url, "head blob")
        return announced

    @asynccontextmanager
    async def open_blob(
        self,
        name: str,
        digest: Digest,
        wanted: WantedBytes,
        whole_after: tuple[type[UpstreamFailure], ...] = (),
    ) -> AsyncIterator[BlobBody]:
        """Open the wanted bytes of a blob; the body's `start` says where they begin.

        A range is a shortcut. A response without the requested range raises RangeRefused, a missing
        response UpstreamUnreachable. `whole_after` lists the errors after which the whole blob is
        requested once, instead of raising.

        Raises BlobUnknown, Denied, or UpstreamFailure.
        """
        url = self.url(name, "blobs", digest)
        request = UpstreamRequest("GET", "blob", name, url, size="large")
        async with self.transport.large:
            if wanted.range is None:
                response, part = await self._ask_whole(request)
            else:
                ranged = replace(request, headers={hdrs.RANGE: wanted.range})
                response, part = await self._ask_part(ranged, wanted, whole_after)
            async with response:
                bandwidth_limit, unpack = (
                    self.transport.connection_settings.bandwidth_limit,
                    wanted.unpack,
                )
                yield BlobBody(response, part, self.count, bandwidth_limit, unpack=unpack)

    async def _ask_part(
        self,
        request: UpstreamRequest,
        wanted: WantedBytes,
        whole_after: tuple[type[UpstreamFailure], ...],
    ) -> tuple[aiohttp.ClientResponse, BlobPart]:
        """Request a range or, if that decides nothing, the whole blob."""
        with suppress(*whole_after):
            return await self._ask_range(request, wanted)
        response, part = await self._ask_whole(replace(request, headers={}))
        if part.size is None or wanted.start < part.size:  # otherwise the range was rightly refused
            self.shortcuts.failed(self.origin.url, "range")
        return response, part

    async def _ask_range(
        self, request: UpstreamRequest, wanted: WantedBytes
    ) -> tuple[aiohttp.ClientResponse, BlobPart]:
        """Request a range; raises RangeRefused, or UpstreamUnreachable if no response came."""
        if not self.shortcuts.worth(self.origin.url, "range"):
            raise RangeRefused("upstream has refused ranges lately")
        try:
            response = await self.ask(request)
        except UpstreamUnreachable:
            raise
        except UpstreamFailure as failure:
            raise RangeRefused(failure.message) from failure
        part = read_part(response, wanted)
        if part is None:
            response.release()
            raise RangeRefused("upstream's response is not the requested range")
        if response.status == 206:
            self.shortcuts.worked(self.origin.url, "range")
        return response, part

    async def _ask_whole(self, request: UpstreamRequest) -> tuple[aiohttp.ClientResponse, BlobPart]:
        response = await self.ask(request)
        try:
            responses.check(response, _blob_unknown(request))
            return response, read_whole(response)
        except RegistryError:
            response.release()
            raise


def _blob_unknown(request: UpstreamRequest) -> BlobUnknown:
    return BlobUnknown(f"upstream has no {request.url.name} in {request.repository}")
