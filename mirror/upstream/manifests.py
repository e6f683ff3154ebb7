"""Manifests at one upstream: HEAD for a hint, GET for the proven bytes."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from aiohttp import hdrs
from cachetools import LRUCache

from mirror.oci import manifest, media, strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    BrokenOff,
    ContentRefused,
    Denied,
    ManifestUnfit,
    ManifestUnknown,
    ManifestWrong,
    TooManyRequests,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from mirror.oci.manifest import Hint, Manifest
from mirror.oci.names import Reference
from mirror.upstream import responses
from mirror.upstream.errors import deadline, read_capped
from mirror.upstream.requester import Requester
from mirror.upstream.telemetry import Observer
from mirror.upstream.upstream_request import HEAD_SHARE, UpstreamRequest

_UNHEARD = 1024  # manifests


class ManifestRequester(Requester):
    """Requests for manifests, with a memory of whether HEAD works."""

    @cached_property
    def _unheard(self) -> LRUCache[tuple[str, Reference], bool]:
        """Manifests with a useless HEAD, until a GET shows whether HEAD was to blame."""
        return LRUCache(_UNHEARD)

    @property
    def answers_heads(self) -> bool:
        """Whether HEADs of manifests are answered at present, by all that was learnt lately.

        The circuit breaker is closed, no HEAD is in backoff, a HEAD names the digest, and half of
        the connections stay free for clients.
        """
        own, transport = self.origin.url, self.transport
        worth = self.shortcuts.worth(own, "head manifest")
        return (
            worth and transport.connection_queue.at_ease and transport.well(own, "manifest", "HEAD")
        )

    async def hint(
        self, name: str, reference: Reference, observe: Observer, *, insist: bool = False
    ) -> Hint:
        """Send a HEAD for a manifest's descriptor, which no registry counts. The result is a hint.

        A refusal returns an empty hint: the GET decides. With `insist`, HEAD is sent even if it was
        useless at this registry lately. `observe` is told of each response. Raises UpstreamFailure
        if no answer came: a 5xx, a 429, a timeout.
        """
        url = self.url(name, "manifests", reference)
        if not insist and not self.shortcuts.worth(url, "head manifest"):
            return Hint()
        most = self.transport.timeouts.answer_timeout * HEAD_SHARE
        request = UpstreamRequest(
            "HEAD", "manifest", name, url, accept(), observe=observe, most=most
        )
        self._unheard[name, reference] = True
        try:
            async with await self.ask(request) as response:
                hint = _of(reference, responses.hint(response))
        except TooManyRequests:  # a matter of the rate limit, not of HEAD
            self._unheard.pop((name, reference), None)
            raise
        except (Denied, ContentRefused, UpstreamMisbehaved):
            return Hint()
        if hint.digest is not None:
            self._unheard.pop((name, reference), None)
            self.shortcuts.worked(url, "head manifest")
        return hint

    async def get_manifest(
        self,
        name: str,
        reference: Reference,
        observe: Observer,
        *,
        retry_as: Reference | None = None,
    ) -> Manifest:
        """Fetch and prove a manifest. On Docker Hub each successful response is a pull.

        `observe` is told of each. A wrong or incomplete body is fetched once more, by `retry_as`:
        the tag, if a tag led to the digest; None for no second attempt. Raises ManifestUnknown,
        Denied, or UpstreamFailure.
        """
        try:
            pulled = await self._pull(name, reference, observe)
        except (ManifestWrong, BrokenOff):
            if retry_as is None:
                raise
            named = reference if isinstance(reference, Digest) else None
            pulled = await self._pull(name, retry_as, observe, named)
        if self._unheard.pop((name, reference), False):
            self.shortcuts.failed(self.origin.url, "head manifest")
        return pulled

    async def _pull(
        self,
        name: str,
        reference: Reference,
        observe: Observer,
        named: Digest | None = None,
    ) -> Manifest:
        url = self.url(name, "manifests", reference)
        request = UpstreamRequest("GET", "manifest", name, url, accept(), observe=observe)
        async with await self.ask(request) as response:
            responses.check(response, ManifestUnknown(f"upstream has no {name}:{reference}"))
            try:
                async with deadline(self.transport.timeouts.silence_timeout, url):
                    body = await read_capped(response, manifest.MAX_SIZE, "manifest", ManifestUnfit)
            except UpstreamUnavailable as error:
                raise BrokenOff(error.message) from error
            self.count(len(body))
            if responses.is_packed(response):
                body = await strict_json.on_thread(responses.unpacked, body)
            promised, content_type = responses.digest(response), responses.media_type(response)
        if named is None:
            named = reference if isinstance(reference, Digest) else promised
        return await strict_json.on_thread(manifest.prove, body, named, content_type)


def _of(reference: Reference, hint: Hint) -> Hint:
    """Interpret a HEAD by digest: a manifest that exists can only be the requested one."""
    if not isinstance(reference, Digest) or hint.digest == reference:
        return hint
    if hint.digest is None and hint.media_type and hint.size:
        return replace(hint, digest=reference, inferred=True)
    return Hint(missing=hint.missing)


def accept() -> dict[str, str]:
    """Return the headers of a request for a manifest."""
    return {hdrs.ACCEPT: media.ACCEPT}
