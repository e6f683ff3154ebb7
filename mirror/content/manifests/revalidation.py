"""Revalidation: tags are asked about by HEAD, each in single flight."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from mirror.budget.protocol import PullBudget
from mirror.budget.pull_request import PullRequest
from mirror.content.manifests.fetcher import ManifestFetcher
from mirror.content.manifests.tags import Tagged, Tags
from mirror.content.outcome import StaleReason
from mirror.content.refusals import is_of_digest
from mirror.identity.client import MIRROR_ITSELF
from mirror.oci.errors import HeldBack, HostUnreachable, PullLimitSpent, UpstreamFailure
from mirror.oci.manifest import Descriptor, Hint
from mirror.oci.names import Repository
from mirror.storage.metadata.rows import TagKey
from mirror.util.singleflight import SingleFlight


class Revalidation:
    """Revalidates tags. `stale_after` is how long a client with a stale one waits, in seconds."""

    def __init__(
        self, budget: PullBudget, tags: Tags, fetcher: ManifestFetcher, stale_after: float
    ) -> None:
        self._budget = budget
        self._tags = tags
        self._fetcher = fetcher
        self._stale_after = stale_after
        self._running: SingleFlight[TagKey, tuple[Tagged, bool] | Hint] = SingleFlight()

    def __repr__(self) -> str:
        return f"<Revalidation: {len(self._running)} running>"

    async def close(self) -> None:
        """Stop the running revalidations."""
        await self._running.close()

    async def run(self, key: TagKey) -> tuple[Tagged, bool] | Hint:
        """Return a tag's target, and whether that was confirmed; a hint where a GET decides.

        Raises UpstreamFailure; then the known target is to be served.
        """
        return await self._running.join(key, lambda: self._check(key))

    def servable(self, key: TagKey) -> Tagged | None:
        """Return the newest known target of a tag that is stored."""
        tagged = self._tags.get(key)
        for each in (tagged, tagged.before) if tagged else ():
            if (
                each is not None
                and self._fetcher.stored.known(key.repository, each.found.digest) is not None
            ):
                return each
        return None

    def fall_back(self, key: TagKey, reason: StaleReason) -> Tagged | None:
        """Ask nothing about a tag for some seconds; returns the target that is served meanwhile."""
        tagged, servable = self._tags.get(key), self.servable(key)
        if tagged is not None and servable is tagged.before:
            self._tags.revert(key, tagged, reason)
        else:
            self._tags.postpone(key, reason)
        return servable

    async def _check(self, key: TagKey) -> tuple[Tagged, bool] | Hint:
        """Ask upstream by HEAD; also tells whether it confirmed the known target.

        A tag does not move to a manifest that is known to be unobtainable: a client that sends HEAD
        and then GET by digest, as dockerd does, would be refused although the older manifest can be
        served.
        """
        repository, tag = key
        before, servable = self._tags.get(key), self.servable(key)
        stale_age = None if servable is None else self._tags.unconfirmed_for(servable)
        request = PullRequest(repository, tag, MIRROR_ITSELF, stale_age=stale_age)
        hint = await self._hint(request, servable)
        found = self._described(repository, hint, before)
        if found is None:
            return hint
        if before is not None and before.found.digest == found.digest:
            return self._tags.put(key, found), True
        if servable is not None and self._fetcher.stored.known(repository, found.digest) is None:
            if refusal := self._fetcher.refusal(repository, found.digest):
                if is_of_digest(refusal):
                    return Hint()
                raise refusal.again()
            request = replace(request, stale_age=self._tags.unconfirmed_for(servable)).resolved(
                found
            )
            if refusal := self._fetcher.unaffordable(request):
                raise refusal
            self.consider(request)
        return self._tags.put(key, found), False

    async def _hint(self, request: PullRequest, servable: Tagged | None) -> Hint:
        """Ask by HEAD; a failure is upstream's where there is a stale target to fall back on.

        Otherwise the GET decides. It also decides where the last question about the tag failed,
        because only HEADs may be failing.
        """
        again = servable is not None and servable.why in (StaleReason.FAULT, StaleReason.PACE)
        try:
            async with asyncio.timeout(self._stale_after / 2 if again else None):
                return await self._fetcher.hint(request)
        except (HostUnreachable, PullLimitSpent):
            raise
        except (UpstreamFailure, TimeoutError):
            if servable is not None and not again:
                raise
            return Hint()

    def _described(
        self, repository: Repository, hint: Hint, before: Tagged | None
    ) -> Descriptor | None:
        """Return the descriptor that a hint names; of known content the digest is enough."""
        if hint.digest is None:
            return None
        if before is not None and before.found.digest == hint.digest:
            return before.found
        known = self._fetcher.stored.known(repository, hint.digest)
        return known or hint.descriptor or self._fetcher.stored.shared(repository, hint.digest)

    def consider(self, request: PullRequest) -> None:
        """Raise HeldBack where a tag that may have changed should keep its older digest for now."""
        if self._budget.outlook(request).held_back:
            raise HeldBack("few pulls are left: the tag keeps its older digest for now")
