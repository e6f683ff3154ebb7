"""Manifest cache: fresh manifests are served, stale tags revalidated, new manifests pulled once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from mirror.budget.protocol import PullBudget
from mirror.budget.pull_request import PullRequest
from mirror.content.manifests.fetcher import ManifestFetcher, ManifestSource, is_of_digest
from mirror.content.manifests.result import ManifestResult
from mirror.content.manifests.revalidation import Revalidation
from mirror.content.manifests.tags import Tagged, Tags
from mirror.content.memory_cache import MemoryCache
from mirror.content.outcome import (
    STALE,
    Outcome,
    StaleReason,
    stale_reason,
)
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    Denied,
    ManifestUnknown,
    RegistryError,
    ShareSpent,
    TooManyRequests,
    UpstreamFailure,
    UpstreamMisbehaved,
)
from mirror.oci.image_name import ImageName
from mirror.oci.manifest import Descriptor, Hint, Manifest
from mirror.oci.names import Reference, Repository
from mirror.storage.metadata.rows import TagKey
from mirror.storage.store import Store
from mirror.upstream.errors import deadline

_log = logging.getLogger(__name__)


class ManifestResolver:
    """The manifests of all upstreams; a stale tag's request waits `stale_after` seconds for one."""

    def __init__(
        self,
        registries: Mapping[str, ManifestSource],
        budget: PullBudget,
        store: Store,
        tags: Tags,
        memory: MemoryCache,
        stale_after: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registries = registries
        self._budget = budget
        self._store = store
        self._tags = tags
        self._memory = memory
        self._stale_after = stale_after
        self._pulls = ManifestFetcher(registries, budget, store, tags, memory, timer)
        self._checks = Revalidation(budget, tags, self._pulls, stale_after)

    def __repr__(self) -> str:
        return f"<ManifestResolver: {self._checks!r}, {self._pulls!r}>"

    async def close(self) -> None:
        """Cancel all revalidations and pulls."""
        await self._checks.close()
        await self._pulls.close()

    def forget_refusals(self, upstream: str) -> None:
        """Forget an upstream's refusals and failures, so that it is asked again."""
        self._tags.forget_refusals(upstream)
        self._pulls.forget_refusals(upstream)

    def peek(self, repository: Repository, reference: Reference) -> ManifestResult | None:
        """Return a manifest from memory, without I/O, or `None`: the path of every warm pull."""
        digest: Digest
        if isinstance(reference, Digest):
            digest = reference
        else:
            tagged = self._tags.get(TagKey(repository, reference))
            if tagged is None or not self._tags.confirmed(tagged):
                return None
            digest = tagged.found.digest
        body = self._memory.get(digest)
        entry = self._store.catalog.get(digest)
        media_type = entry.type_for(repository.upstream) if entry else None
        if body is None or entry is None or media_type is None:
            return None
        if not self._store.catalog.belongs(digest, repository):
            return None
        self._store.touch(digest)
        return ManifestResult(Descriptor(digest, media_type, entry.size), body, Outcome.HIT)

    async def get(
        self, repository: Repository, reference: Reference, client: str, *, head: bool
    ) -> ManifestResult:
        """Return a manifest from the cache or from upstream.

        With `head` no body is fetched and no pull is counted, unless upstream's response to a HEAD
        says too little. Raises ManifestUnknown, or UpstreamFailure if the cache has no answer.
        """
        if message := self._tags.missing(repository, reference):
            _log.debug("upstream is not asked again so soon: %s", message)
            raise ManifestUnknown(message)
        if message := self._denied(repository, reference):
            _log.debug("upstream is not asked again so soon: %s", message)
            raise Denied(message)
        found = await self._get(PullRequest(repository, reference, client), head=head)
        if found.why is not None and _log.isEnabledFor(logging.DEBUG):
            words, name = STALE[found.why], ImageName(repository, reference)
            _log.debug("%s is served as it was %d s ago: %s", name, found.age or 0, words)
        return found

    async def _get(self, request: PullRequest, *, head: bool) -> ManifestResult:
        repository, reference = request.repository, request.reference
        try:
            if isinstance(reference, Digest):
                return await self._by_digest(request, reference, head=head)
            return await self._by_tag(TagKey(repository, reference), request, head=head)
        except ManifestUnknown as error:
            self._tags.put_missing(repository, reference, error.message)
            raise
        except Denied as error:
            self._tags.put_denied(repository, reference, error.message)
            raise

    def _denied(self, repository: Repository, reference: Reference) -> str | None:
        """Return the message of a recent denial; none for a repository with stored content.

        Such a denial may be a mistake of upstream's, and is over with the next question.
        """
        if self._store.catalog.holds(repository):
            return None
        return self._tags.denied(repository, reference)

    # By tag

    async def _by_tag(self, key: TagKey, request: PullRequest, *, head: bool) -> ManifestResult:
        patient_until = _now() + self._stale_after
        current = await self._current(key)
        if isinstance(current, Hint):
            return await self._pull_by_tag(key, request, current, patient_until)
        tagged, outcome, reason = current
        age = self._tags.age(tagged) if outcome is Outcome.STALE else None
        if head:
            return self._head(
                key, tagged, request, ManifestResult(tagged.found, None, outcome, age, reason)
            )
        kept = await self._kept(key, tagged)
        if kept is None:
            return await self._pull_tagged(key, tagged, request)
        return ManifestResult(kept.descriptor, kept.body, outcome, age, reason)

    async def _kept(self, key: TagKey, tagged: Tagged) -> Manifest | None:
        return await self._pulls.kept.read(
            key.repository, tagged.found.digest, tagged.found.media_type
        )

    def _head(
        self, key: TagKey, tagged: Tagged, request: PullRequest, found: ManifestResult
    ) -> ManifestResult:
        """Answer a HEAD with a manifest that the client can GET next, as dockerd does."""
        before = tagged.before
        request = replace(request, stale_age=self._stale_age(key.repository, before)).resolved(
            tagged.found
        )
        if known := self._pulls.kept.known(key.repository, tagged.found.digest):
            self._tags.arrived(key.repository, tagged.found.digest)
            return replace(found, descriptor=known)
        if before is not None and request.stale_age is not None:
            refusal = self._pulls.unaffordable(request)
            if refusal is not None:
                age = self._tags.age(before)
                return ManifestResult(before.found, None, Outcome.STALE, age, stale_reason(refusal))
        self._pulls.expect(request)
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
                pulled = await self._pulls.pull(resolved, insist=False)
        except ManifestUnknown:
            return await self._pull_by_tag(key, request, Hint(), patient_until)
        except UpstreamFailure as failure:
            if (
                is_of_digest(failure)
                and self._pulls.refusal(key.repository, found.digest) is not None
            ):
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
        here = self._checks.here(key)
        stale_age = None if here is None else self._tags.unconfirmed_for(here)
        request = replace(request, stale_age=stale_age)
        _log.debug("the HEAD does not identify %s:%s: it is pulled by its tag", *key)
        try:
            self._checks.consider(request)
            async with deadline(None if here is None else max(0.0, patient_until - _now())):
                pulled = await self._pulls.pull(request, insist=insist)
        except UpstreamFailure as failure:
            stale = await self._stale(key, here, failure)
            if stale is None:
                raise _or_missing(failure, hint, key.tag) from failure
            if not isinstance(failure, ShareSpent):
                self._checks.fall_back(key, stale_reason(failure))
            return stale
        return ManifestResult(pulled.descriptor, pulled.body, Outcome.MISS)

    def _stale_age(self, repository: Repository, tagged: Tagged | None) -> float | None:
        """Return the seconds since a tag's digest was confirmed; `None` if it is not stored."""
        if tagged is None or self._pulls.kept.known(repository, tagged.found.digest) is None:
            return None
        return self._tags.unconfirmed_for(tagged)

    async def _stale(
        self, key: TagKey, tagged: Tagged | None, failure: UpstreamFailure
    ) -> ManifestResult | None:
        """Return the last known manifest of a tag, if it is stored."""
        _log.debug("the current manifest of %s:%s cannot be pulled: %s", *key, failure.message)
        kept = await self._kept(key, tagged) if tagged else None
        if tagged is None or kept is None:
            return None
        age = self._tags.age(tagged)
        return ManifestResult(kept.descriptor, kept.body, Outcome.STALE, age, stale_reason(failure))

    async def _current(self, key: TagKey) -> tuple[Tagged, Outcome, StaleReason | None] | Hint:
        """Resolve a tag to its digest; a hint that says too little leaves the decision to a GET.

        There are three cases: upstream answered recently; it answers now; or it fails, and its
        last answer is used.
        """
        if lately := self._lately(key):
            return lately
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("upstream is asked what %s:%s is: %s", *key, self._why_ask(key))
        try:
            async with deadline(self._stale_after if self._checks.here(key) else None):
                checked = await self._checks.run(key)
        except UpstreamFailure as failure:
            _log.debug("upstream does not tell what %s:%s is: %s", *key, failure.message)
            stale = self._checks.fall_back(key, stale_reason(failure))
            if stale is None:
                raise
            return stale, Outcome.STALE, stale_reason(failure)
        if isinstance(checked, Hint):
            return self._lately(key) or checked  # another client's GET may have resolved it
        now, confirmed = checked
        return now, Outcome.REVALIDATED if confirmed else Outcome.MISS, None

    def _why_ask(self, key: TagKey) -> str:
        """Return, for the log, why the known digest of a tag is not served without a question."""
        tagged = self._tags.get(key)
        if tagged is None:
            return "it is not known yet"
        since = f"its last answer is {self._tags.age(tagged)} s old"
        return since if tagged.why is None else f"{since}, as then {STALE[tagged.why]}"

    def _lately(self, key: TagKey) -> tuple[Tagged, Outcome, StaleReason | None] | None:
        """Return a tag that upstream need not be asked about: confirmed or failed recently."""
        tagged = self._tags.get(key)
        if tagged is None or not self._tags.fresh(tagged):
            return None
        if self._tags.confirmed(tagged):
            return tagged, Outcome.HIT, None
        return tagged, Outcome.STALE, tagged.why

    # By digest

    async def _by_digest(
        self, request: PullRequest, digest: Digest, *, head: bool
    ) -> ManifestResult:
        """Return a manifest that is stored and linked, stored but not linked, or not stored.

        A manifest that only another upstream sent counts as not stored.
        """
        repository = request.repository
        found, outcome, hint = self._pulls.kept.known(repository, digest), Outcome.HIT, Hint()
        here = self._pulls.kept.within(repository, digest)
        if found is None and (head or here):
            hint = await self._pulls.confirm(repository, digest)
            outcome = Outcome.REVALIDATED if here else Outcome.MISS
        if head and (found := found or hint.descriptor):
            return ManifestResult(found, None, outcome)
        kept = None
        if found is not None or hint.digest is not None:
            kept = await self._pulls.kept.read(repository, digest, hint.media_type)
        if kept is not None:
            return ManifestResult(kept.descriptor, kept.body, outcome)
        return await self._pull_by_digest(request, digest, hint)

    async def _pull_by_digest(
        self, request: PullRequest, digest: Digest, hint: Hint
    ) -> ManifestResult:
        _log.debug("%s@%s is not stored: it is pulled", request.repository, digest)
        if hint.descriptor is not None:
            request = request.resolved(hint.descriptor)
        if awaiting := self._tags.awaiting(request.repository, digest):  # a tag was just resolved
            tag, found = awaiting
            request = replace(request, reference=tag).resolved(found)
        try:
            pulled = await self._pulls.pull(request)
        except TooManyRequests as failure:
            raise _or_missing(failure, hint, digest) from failure
        return ManifestResult(pulled.descriptor, pulled.body, Outcome.MISS)


def _now() -> float:
    """Return the event loop's time, in seconds."""
    return asyncio.get_running_loop().time()


def _or_missing(failure: UpstreamFailure, hint: Hint, reference: Reference) -> RegistryError:
    """Return the error of a GET that decided nothing: a HEAD's 404, if no pull was left."""
    if hint.missing and isinstance(failure, TooManyRequests):
        return ManifestUnknown(f"upstream has no {reference}")
    return failure
