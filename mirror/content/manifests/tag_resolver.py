"""The resolver of tags: their manifests are served, pulled, or replaced by the stale ones."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from mirror.budget.protocol import PullBudget
from mirror.budget.pull_request import PullRequest
from mirror.content.manifests.fetcher import ManifestFetcher
from mirror.content.manifests.result import ManifestResult
from mirror.content.manifests.revalidation import Revalidation
from mirror.content.manifests.tags import Tagged, Tags
from mirror.content.outcome import (
    STALE_TEXTS,
    Ahead,
    Outcome,
    StaleReason,
    stale_reason,
)
from mirror.content.refusals import is_of_digest
from mirror.oci.errors import (
    HeldBack,
    ManifestUnknown,
    RegistryError,
    ShareSpent,
    TooManyRequests,
    UpstreamFailure,
    UpstreamMisbehaved,
)
from mirror.oci.manifest import Hint, Manifest
from mirror.oci.names import Reference, Repository
from mirror.storage.metadata.rows import TagKey
from mirror.upstream.errors import deadline

_log = logging.getLogger(__name__)


class TagResolver:
    """Finds the manifest of a tag; a client with a stale one waits `stale_after` seconds."""

    def __init__(
        self, tags: Tags, fetcher: ManifestFetcher, budget: PullBudget, stale_after: float
    ) -> None:
        self._tags = tags
        self._fetcher = fetcher
        self._stored = fetcher.stored
        self._stale_after = stale_after
        self._revalidation = Revalidation(budget, tags, fetcher, stale_after)

    def __repr__(self) -> str:
        return f"<TagResolver: {self._revalidation!r}>"

    async def close(self) -> None:
        """Cancel all revalidations."""
        await self._revalidation.close()

    async def revalidate(self, key: TagKey) -> Hint:
        """Ask upstream about a tag by HEAD, unless it need not be asked: this costs no pull.

        A hint without a digest says that only a GET can tell, or that upstream failed just now.
        Raises UpstreamFailure, after which the tag is not asked about for some seconds.
        """
        if lately := self._lately(key):
            tagged, outcome, _ = lately
            return Hint() if outcome is Outcome.STALE else Hint.of(tagged.found)
        try:
            checked = await self._revalidation.run(key)
        except UpstreamFailure as failure:
            self._revalidation.fall_back(key, stale_reason(failure))
            raise
        return checked if isinstance(checked, Hint) else Hint.of(checked[0].found)

    async def revalidate_ahead(self, key: TagKey) -> Ahead:
        """Ask upstream by HEAD about a tag that has not ended yet.

        A failure leaves no trace: the next client asks as if this question had not been sent.
        Raises UpstreamFailure.
        """
        try:
            checked = await self._revalidation.run(key)
        except HeldBack as failure:
            self._revalidation.fall_back(key, stale_reason(failure))
            return Ahead.HELD_BACK
        if isinstance(checked, Hint):
            return Ahead.UNDECIDED
        return Ahead.CONFIRMED if checked[1] else Ahead.CHANGED

    async def resolve(
        self, key: TagKey, request: PullRequest, *, head: bool, anew: bool = False
    ) -> ManifestResult:
        """Return the manifest of a tag; with `head`, none that has to be pulled.

        With `anew` upstream is asked even if it answered recently. Raises ManifestUnknown, Denied,
        or UpstreamFailure.
        """
        patient_until = _now() + self._stale_after
        current = await self._current(key, anew=anew)
        if isinstance(current, Hint):
            return await self._pull_by_tag(key, request, current, patient_until)
        tagged, outcome, reason = current
        age = self._tags.age(tagged) if outcome is Outcome.STALE else None
        if head:
            return self._head(
                key, tagged, request, ManifestResult(tagged.found, None, outcome, age, reason)
            )
        manifest = await self._read(key, tagged)
        if manifest is None:
            return await self._pull_tagged(key, tagged, request)
        return ManifestResult(manifest.descriptor, manifest.body, outcome, age, reason)

    async def _read(self, key: TagKey, tagged: Tagged) -> Manifest | None:
        return await self._stored.read(key.repository, tagged.found.digest, tagged.found.media_type)

    def _head(
        self, key: TagKey, tagged: Tagged, request: PullRequest, found: ManifestResult
    ) -> ManifestResult:
        """Answer a HEAD with a manifest that the client can GET next, as dockerd does."""
        before = tagged.before
        request = replace(request, stale_age=self._stale_age(key.repository, before)).resolved(
            tagged.found
        )
        if known := self._stored.known(key.repository, tagged.found.digest):
            self._tags.arrived(key.repository, tagged.found.digest)
            return found._replace(descriptor=known)
        if before is not None and request.stale_age is not None:
            refusal = self._fetcher.unaffordable(request)
            if refusal is not None:
                age = self._tags.age(before)
                return ManifestResult(before.found, None, Outcome.STALE, age, stale_reason(refusal))
        self._fetcher.expect(request)
        return found

    async def _pull_tagged(
        self, key: TagKey, tagged: Tagged, request: PullRequest
    ) -> ManifestResult:
        """Pull the current manifest of a tag; if that fails, fall back on the previous one.

        The pull goes on if it takes longer than a client should wait for a stale answer. For a tag
        the GET by digest is a shortcut: if it fails, the GET by tag decides.
        """
        before, found = tagged.before, tagged.found
        stale_age = self._stale_age(key.repository, before)
        _log.debug("%s:%s is %s now, which is not stored: it is pulled", *key, found.digest)
        patient_until = _now() + self._stale_after
        try:
            async with deadline(None if stale_age is None else self._stale_after):
                resolved = replace(request, stale_age=stale_age).resolved(found)
                pulled = await self._fetcher.pull(resolved, insist=False)
        except ManifestUnknown:
            self._tags.misnamed(tagged)
            return await self._pull_by_tag(key, request, Hint(), patient_until)
        except UpstreamFailure as failure:
            if (
                is_of_digest(failure)
                and self._fetcher.refusal(key.repository, found.digest) is not None
            ):
                self._tags.misnamed(tagged)
                insist = not isinstance(failure, UpstreamMisbehaved)  # a bad body was counted
                return await self._pull_by_tag(key, request, Hint(), patient_until, insist=insist)
            stale = await self._stale(key, before, failure)
            if stale is None:
                raise
            if not isinstance(failure, ShareSpent):  # other clients may pull
                self._tags.revert(key, tagged, stale_reason(failure))
            return stale
        return ManifestResult(pulled.descriptor, pulled.body, Outcome.MISS)

    async def _pull_by_tag(
        self,
        key: TagKey,
        request: PullRequest,
        hint: Hint,
        patient_until: float,
        *,
        insist: bool = True,
    ) -> ManifestResult:
        """Pull by tag if upstream's HEAD decides nothing.

        If no pull can be spent on it, a stored tag keeps its digest, and a HEAD's 404 stands.
        """
        servable = self._revalidation.servable(key)
        stale_age = None if servable is None else self._tags.unconfirmed_for(servable)
        request = replace(request, stale_age=stale_age)
        _log.debug("the HEAD does not identify %s:%s: it is pulled by its tag", *key)
        try:
            self._revalidation.consider(request)
            async with deadline(None if servable is None else max(0.0, patient_until - _now())):
                pulled = await self._fetcher.pull(request, insist=insist)
        except UpstreamFailure as failure:
            stale = await self._stale(key, servable, failure)
            if stale is None:
                raise missing_or(failure, hint, key.tag) from failure
            if not isinstance(failure, ShareSpent):
                self._revalidation.fall_back(key, stale_reason(failure))
            return stale
        return ManifestResult(pulled.descriptor, pulled.body, Outcome.MISS)

    def _stale_age(self, repository: Repository, tagged: Tagged | None) -> float | None:
        """Return the seconds since a tag's digest was confirmed; `None` if it is not stored."""
        if tagged is None or self._stored.known(repository, tagged.found.digest) is None:
            return None
        return self._tags.unconfirmed_for(tagged)

    async def _stale(
        self, key: TagKey, tagged: Tagged | None, failure: UpstreamFailure
    ) -> ManifestResult | None:
        """Return the last known manifest of a tag, if it is stored."""
        _log.debug("the current manifest of %s:%s cannot be pulled: %s", *key, failure.message)
        manifest = await self._read(key, tagged) if tagged else None
        if tagged is None or manifest is None:
            return None
        age = self._tags.age(tagged)
        return ManifestResult(
            manifest.descriptor, manifest.body, Outcome.STALE, age, stale_reason(failure)
        )

    async def _current(
        self, key: TagKey, *, anew: bool
    ) -> tuple[Tagged, Outcome, StaleReason | None] | Hint:
        """Resolve a tag to its digest; a hint that says too little leaves the decision to a GET.

        There are three cases: upstream answered recently; it answers now; or it fails, and its
        last answer is used.
        """
        if not anew and (lately := self._lately(key)):
            return lately
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("upstream is asked what %s:%s is: %s", *key, self._why_ask(key))
        try:
            async with deadline(self._stale_after if self._revalidation.servable(key) else None):
                checked = await self._revalidation.run(key)
        except UpstreamFailure as failure:
            _log.debug("upstream does not tell what %s:%s is: %s", *key, failure.message)
            stale = self._revalidation.fall_back(key, stale_reason(failure))
            if stale is None:
                raise
            return stale, Outcome.STALE, stale_reason(failure)
        if isinstance(checked, Hint):
            # Another client's GET may have resolved it meanwhile.
            return checked if anew else self._lately(key) or checked
        now, confirmed = checked
        return now, Outcome.REVALIDATED if confirmed else Outcome.MISS, None

    def _why_ask(self, key: TagKey) -> str:
        """Return, for the log, why the known digest of a tag is not served without a question."""
        tagged = self._tags.get(key)
        if tagged is None:
            return "it is not known yet"
        since = f"its last answer is {self._tags.age(tagged)} s old"
        return since if tagged.why is None else f"{since}, as then {STALE_TEXTS[tagged.why]}"

    def _lately(self, key: TagKey) -> tuple[Tagged, Outcome, StaleReason | None] | None:
        """Return a tag that upstream need not be asked about: confirmed or failed recently."""
        tagged = self._tags.get(key)
        if tagged is None or not self._tags.may_serve_unasked(tagged):
            return None
        if self._tags.fresh(tagged):
            return tagged, Outcome.HIT, None
        return tagged, Outcome.STALE, tagged.why


def _now() -> float:
    """Return the event loop's time, in seconds."""
    return asyncio.get_running_loop().time()


def missing_or(failure: UpstreamFailure, hint: Hint, reference: Reference) -> RegistryError:
    """Return the error of a GET that decided nothing: a HEAD's 404, if no pull was left."""
    if hint.missing and isinstance(failure, TooManyRequests):
        return ManifestUnknown(f"upstream has no {reference}")
    return failure
