"""Blobs at one upstream: HEAD and Range as shortcuts, and the whole where they decide nothing."""

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
from mirror.upstream.asking import HEAD_SHARE, Asking, Question
from mirror.upstream.blob_body import (
    BlobBody,
    Part,
    Wanted,
    hinted_size,
    read_part,
    read_whole,
    told_size,
)


class BlobQuestions(Asking):
    """Asks for blobs, and remembers whether HEADs and ranges are of use."""

    async def head_blob(self, repository: str, digest: Digest) -> int | None:
        """Ask by HEAD for a blob's size in bytes: a hint. None where only a GET tells."""
        if not self.shortcuts.worth(self.origin.url, "head blob"):
            return None
        url = self.url(repository, "blobs", digest)
        most = self.wire.patience.answer * HEAD_SHARE
        question = Question("HEAD", "blob", repository, url, most=most)
        with suppress(UpstreamFailure):
            async with await self.ask(question) as response:
                return hinted_size(response, digest)
        return None

    async def find_blob(
        self, repository: str, digest: Digest, size: int | None = None
    ) -> int | None:
        """Ask whether a repository has a blob; returns its size in bytes, None if that is not told.

        A GET, closed after its headers, decides where HEAD does not say yes, or another `size`
        than what is known. Raises BlobUnknown, Denied, or UpstreamFailure; UpstreamMisbehaved
        where only the blob's bytes can tell.
        """
        hint = await self.head_blob(repository, digest)
        if hint is not None and size in (None, hint):
            self.shortcuts.worked(self.origin.url, "head blob")
            return hint
        question = Question("GET", "blob", repository, self.url(repository, "blobs", digest))
        async with await self.ask(question) as response:
            responses.check(response, _blob_unknown(question))
            told = told_size(response, digest, size)
        self.shortcuts.failed(self.origin.url, "head blob")
        return told

    @asynccontextmanager
    async def open_blob(
        self,
        repository: str,
        digest: Digest,
        wanted: Wanted,
        whole_after: tuple[type[UpstreamFailure], ...] = (),
    ) -> AsyncIterator[BlobBody]:
        """Open a blob's bytes that are wanted; where the body begins is for it to say.

        A range is a shortcut. Where the answer is not the right part, that is a RangeRefused; where
        there is no answer, an UpstreamUnreachable. `whole_after` says after which of these the
        whole is asked for, once, instead of raising it.
        Raises BlobUnknown, Denied, or UpstreamFailure.
        """
        url = self.url(repository, "blobs", digest)
        question = Question("GET", "blob", repository, url, size="large")
        async with self.wire.large:
            if wanted.range is None:
                response, part = await self._ask_whole(question)
            else:
                ranged = replace(question, headers={hdrs.RANGE: wanted.range})
                response, part = await self._ask_part(ranged, wanted, whole_after)
            async with response:
                pace, unpack = self.wire.link.pace, wanted.unpack
                yield BlobBody(response, part, self.count, pace, unpack=unpack)

    async def _ask_part(
        self,
        question: Question,
        wanted: Wanted,
        whole_after: tuple[type[UpstreamFailure], ...],
    ) -> tuple[aiohttp.ClientResponse, Part]:
        """Ask for a part or, where that decides nothing, for the whole."""
        with suppress(*whole_after):
            return await self._ask_range(question, wanted)
        response, part = await self._ask_whole(replace(question, headers={}))
        if part.size is None or wanted.start < part.size:  # else a range was rightly refused
            self.shortcuts.failed(self.origin.url, "range")
        return response, part

    async def _ask_range(
        self, question: Question, wanted: Wanted
    ) -> tuple[aiohttp.ClientResponse, Part]:
        """Ask for a part; raises RangeRefused, or UpstreamUnreachable where no answer came."""
        if not self.shortcuts.worth(self.origin.url, "range"):
            raise RangeRefused("upstream refused ranges of late")
        try:
            response = await self.ask(question)
        except UpstreamUnreachable:
            raise
        except UpstreamFailure as failure:
            raise RangeRefused(failure.message) from failure
        part = read_part(response, wanted)
        if part is None:
            response.release()
            raise RangeRefused("upstream sends something else than the range that was asked for")
        if response.status == 206:
            self.shortcuts.worked(self.origin.url, "range")
        return response, part

    async def _ask_whole(self, question: Question) -> tuple[aiohttp.ClientResponse, Part]:
        response = await self.ask(question)
        try:
            responses.check(response, _blob_unknown(question))
            return response, read_whole(response)
        except RegistryError:
            response.release()
            raise


def _blob_unknown(question: Question) -> BlobUnknown:
    return BlobUnknown(f"upstream has no {question.url.name} in {question.repository}")
