"""Manifests at one upstream: what a HEAD hints at, and what a GET proves."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from aiohttp import hdrs
from cachetools import LRUCache

from mirror.oci import documents, manifest, media
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
from mirror.oci.names import Reference, parse_reference
from mirror.upstream import responses
from mirror.upstream.answers import Ask
from mirror.upstream.asking import HEAD_SHARE, Asking, Question
from mirror.upstream.faults import deadline, read_capped

_UNHEARD = 1024  # manifests


class ManifestQuestions(Asking):
    """Asks for manifests, and remembers whether HEADs are of use."""

    @cached_property
    def _unheard(self) -> LRUCache[tuple[str, Reference], bool]:
        """The manifests whose HEAD was of no use, until a GET shows whose fault that was."""
        return LRUCache(_UNHEARD)

    async def hint(self, repository: str, reference: Reference, *, insist: bool = False) -> Hint:
        """Ask by HEAD, which no registry counts, what a manifest is. What it says is a hint.

        A refusal is one that tells nothing: the GET decides. With `insist` a HEAD is asked for
        though those of this registry were of no use lately. Raises UpstreamFailure where no answer
        comes: a 5xx, a 429, silence.
        """
        url = self.url(repository, "manifests", reference)
        if not insist and not self.shortcuts.worth(url, "head manifest"):
            return Hint()
        most = self.wire.patience.answer * HEAD_SHARE
        question = Question("HEAD", "manifest", repository, url, accept(), most=most)
        self._unheard[repository, reference] = True
        try:
            async with await self.ask(question) as response:
                hint = _of(reference, responses.hint(response))
        except TooManyRequests:  # that is about the rate, and not about HEADs
            self._unheard.pop((repository, reference), None)
            raise
        except (Denied, ContentRefused, UpstreamMisbehaved):
            return Hint()
        if hint.digest is not None:
            self._unheard.pop((repository, reference), None)
            self.shortcuts.worked(url, "head manifest")
        return hint

    async def get_manifest(
        self, repository: str, reference: Reference, ask: Ask, *, insist: bool = True
    ) -> Manifest:
        """Fetch and prove a manifest: on Docker Hub, this is a pull.

        One that came wrong, or not to its end, is asked for once more, unless `insist` is off, and
        by the tag that led to it, if one did. Raises ManifestUnknown, Denied, or UpstreamFailure.
        """
        try:
            pulled = await self._pull(repository, reference, ask)
        except (ManifestWrong, BrokenOff):
            if not insist:
                raise
            named = reference if isinstance(reference, Digest) else None
            pulled = await self._pull(repository, parse_reference(ask.reference), ask, named)
        if self._unheard.pop((repository, reference), False):
            self.shortcuts.failed(self.origin.url, "head manifest")
        return pulled

    async def _pull(
        self, repository: str, reference: Reference, ask: Ask, named: Digest | None = None
    ) -> Manifest:
        url = self.url(repository, "manifests", reference)
        question = Question("GET", "manifest", repository, url, accept(), ask=ask)
        async with await self.ask(question) as response:
            responses.check(response, ManifestUnknown(f"upstream has no {repository}:{reference}"))
            try:
                async with deadline(self.wire.patience.silence, url):
                    body = await read_capped(response, manifest.MAX_SIZE, "manifest", ManifestUnfit)
            except UpstreamUnavailable as error:
                raise BrokenOff(error.message) from error
            self.count(len(body))
            if responses.is_packed(response):
                body = await documents.aside(responses.unpacked, body)
            promised, told = responses.digest(response), responses.media_type(response)
        if named is None:
            named = reference if isinstance(reference, Digest) else promised
        return await documents.aside(manifest.prove, body, named, told)


def _of(reference: Reference, hint: Hint) -> Hint:
    """Read a HEAD of a digest: where it says that there is a manifest, it can be of that only."""
    if not isinstance(reference, Digest) or hint.digest == reference:
        return hint
    if hint.digest is None and hint.media_type and hint.size:
        return replace(hint, digest=reference, inferred=True)
    return Hint(missing=hint.missing)


def accept() -> dict[str, str]:
    """Return the headers of a question for a manifest."""
    return {hdrs.ACCEPT: media.ACCEPT}
