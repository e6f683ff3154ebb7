"""Pulls: the GETs of manifests, each sent once for all its requests, and never in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from cachetools import TLRUCache

from mirror.budget.budget import Budget, Permit, wanted
from mirror.content.manifests.stored import StoredManifests
from mirror.content.manifests.tags import Tags
from mirror.content.memory_cache import MemoryCache
from mirror.content.outcome import StaleReason, stale_reason
from mirror.content.refusals import forget
from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    HostUnreachable,
    ManifestUnfit,
    ManifestUnknown,
    PullLimitSpent,
    RegistryError,
    ShareSpent,
    TooManyRequests,
    UpstreamFailure,
    UpstreamMisbehaved,
    may_pass,
)
from mirror.oci.manifest import Descriptor, Hint, Manifest
from mirror.oci.names import Reference, Repository
from mirror.storage.store import Store
from mirror.upstream.telemetry import Ask
from mirror.util.singleflight import SingleFlight

# Seconds for which a failed manifest is not relied on: after a refusal, and after wrong bytes,
# which cost a pull each time. A tag that is reverted for it waits five seconds more, and must be
# right again within 15 s of upstream's recovery.
_REFUSED_FOR = 5.0
_WRONG_FOR = 9.0
_REFUSED_KEPT = 10_000
_ELSEWHERE = 5.0  # seconds to wait for a pull of the same digest in another repository


class ManifestSource(Protocol):
    """The source of manifests; it raises the errors of `Registry`."""

    async def hint(self, repository: str, reference: Reference, *, insist: bool = False) -> Hint:
        """Ask for a manifest's descriptor by HEAD."""

    async def get_manifest(
        self, repository: str, reference: Reference, ask: Ask, *, insist: bool = True
    ) -> Manifest:
        """Get a manifest; with `insist` a wrong body is requested once more."""


class ManifestFetcher:
    """The only place that sends requests which upstream counts."""

    def __init__(
        self,
        registries: Mapping[str, ManifestSource],
        budget: Budget,
        store: Store,
        tags: Tags,
        memory: MemoryCache,
    ) -> None:
        self._registries = registries
        self._budget = budget
        self._tags = tags
        self.kept = StoredManifests(store, tags, memory, registries)
        self._running: SingleFlight[tuple[Repository, Reference], Manifest] = SingleFlight()
        self._heads: SingleFlight[tuple[Repository, Digest], Hint] = SingleFlight()
        self._leaders: dict[tuple[str, Digest], Repository] = {}  # by upstream
        self._refused: TLRUCache[tuple[Repository, Reference], UpstreamFailure] = TLRUCache(
            _REFUSED_KEPT, lambda _, failure, now: now + _refused_for(failure), budget.now
        )

    def __repr__(self) -> str:
        return f"<ManifestFetcher: {len(self._running)} running>"

    async def close(self) -> None:
        """Cancel all pulls and questions."""
        await self._running.close()
        await self._heads.close()
        await self.kept.close()

    def forget_refusals(self, upstream: str) -> None:
        """Forget an upstream's failures, so that it is asked again."""
        forget(self._refused, upstream)

    async def hint(
        self, repository: Repository, reference: Reference, *, spare: bool = False
    ) -> Hint:
        """Ask for a manifest's descriptor by HEAD, which upstream does not count.

        If pulls are counted and a stored manifest can `spare` one, the HEAD is sent even if it was
        useless recently. Raises UpstreamFailure if there is no answer.
        """
        insist = spare and self._budget.present(repository.upstream).window.limit is not None
        registry = self._registries[repository.upstream]
        with self._budget.asking(repository):
            return await registry.hint(repository.name, reference, insist=insist)

    async def confirm(self, repository: Repository, digest: Digest) -> Hint:
        """Ask by HEAD whether a repository has a manifest (single flight).

        A failure and a refusal decide nothing: the GET does. An answer decides nothing either if it
        has no digest, and another size than the stored copy. Raises PullLimitSpent, and
        HostUnreachable, which a GET would meet as well.
        """
        try:
            hint = await self._heads.join(
                (repository, digest), lambda: self.hint(repository, digest)
            )
        except (HostUnreachable, PullLimitSpent):
            raise
        except UpstreamFailure:
            return Hint()
        known = self.kept.shared(repository, digest)
        wrong = known is not None and hint.inferred and hint.size != known.size
        return Hint() if wrong else hint

    def refusal(self, repository: Repository, digest: Digest) -> UpstreamFailure | None:
        """Return the recent failure of this manifest's pull."""
        return self._refused.get((repository, digest))

    def unaffordable(
        self, repository: Repository, found: Descriptor, ask: Ask, spare: float
    ) -> TooManyRequests | None:
        """Return the refusal that a pull would get now; `None` also if it costs nothing more."""
        if self._running.get((repository, found.digest)) is not None:
            return None
        return self._budget.refusal(repository, wanted(repository, found, ask, spare))

    def expect(self, repository: Repository, found: Descriptor, ask: Ask) -> None:
        """Reserve a pull for a client that is told of a manifest, unless the pull is running."""
        if self._running.get((repository, found.digest)) is None:
            self._budget.expect(repository, wanted(repository, found, ask))

    async def pull(
        self,
        repository: Repository,
        reference: Reference,
        ask: Ask,
        found: Descriptor | None = None,
        spare: float | None = None,
        *,
        insist: bool = True,
    ) -> Manifest:
        """Pull a manifest (single flight): upstream counts this request.

        `found` is the descriptor from a HEAD; for `spare` see `Want`. Without `insist` a wrong body
        is not requested again: the caller has another way. Raises ManifestUnknown, Denied, or
        UpstreamFailure.
        """
        refusal = self._refused.get((repository, reference))
        if isinstance(refusal, UpstreamMisbehaved):  # a retry costs another pull
            raise refusal.again()
        if isinstance(reference, Digest):
            found = found or await self._kind(repository, reference, ask)
            shared = await self._from_elsewhere(repository, reference)
            if shared is not None:
                return shared
        met = False
        while running := self._running.get((repository, reference)):
            try:
                return await asyncio.shield(running)  # joining spends nothing
            except ShareSpent:  # the share of the client that began it and waited for a pull
                await asyncio.sleep(0)  # until the failed pull is removed
            except RegistryError as failure:  # of another client's pull, which failed once
                if met or not may_pass(failure):
                    raise
                met = True
        permit = self._budget.admit(repository, wanted(repository, found, ask, spare))
        if isinstance(reference, Digest):
            self._leaders.setdefault((repository.upstream, reference), repository)
        return await self._running.join(
            (repository, reference),
            lambda: self._fetch(repository, reference, ask, permit, insist=insist),
        )

    async def _kind(self, repository: Repository, digest: Digest, ask: Ask) -> Descriptor | None:
        """Ask by HEAD for the descriptor, if the pulls left may not be enough for an index."""
        if self._running.get((repository, digest)) is not None:
            return None
        if not self._budget.refuses_index(repository, wanted(repository, None, ask)):
            return None
        return (await self.confirm(repository, digest)).descriptor

    async def _from_elsewhere(self, repository: Repository, digest: Digest) -> Manifest | None:
        """Wait for a pull of the same digest in another repository of the same upstream.

        The manifest then costs a HEAD only.
        """
        key = repository.upstream, digest
        leader = self._leaders.get(key)
        while leader is not None and leader != repository:
            task = self._running.get((leader, digest))
            if task is None:  # ended while another client joined it
                del self._leaders[key]
                return None
            await asyncio.wait([task], timeout=_ELSEWHERE)
            if not task.done():  # the other repository alone may hang
                return None
            hint = await self.confirm(repository, digest)
            if hint.digest is not None:
                kept = await self.kept.read(repository, digest, hint.media_type)
                if kept is not None:
                    return kept
            leader = self._leaders.get(key)
        return None

    async def _fetch(
        self,
        repository: Repository,
        reference: Reference,
        ask: Ask,
        permit: Permit,
        *,
        insist: bool,
    ) -> Manifest:
        try:
            async with permit:
                pulled = await self._get(repository, reference, ask, insist=insist)
            kept = await self.kept.keep(repository, pulled)
            if not isinstance(reference, Digest):  # not in the caller: the client may have left
                self._tags.put((repository, reference), kept.descriptor)
                self._tags.arrived(repository, kept.descriptor.digest)
        except ShareSpent:  # other clients may pull it
            raise
        except UpstreamFailure as failure:
            self._refused[repository, reference] = failure.again()  # a value, without frames
            self._cannot_be_had(repository, reference, stale_reason(failure))
            raise
        except ManifestUnknown:  # a replica of the registry may lag
            self._cannot_be_had(repository, reference, StaleReason.FAULT)
            raise
        else:
            return kept
        finally:
            if isinstance(reference, Digest):
                self._follow_no_more(repository, reference)

    async def _get(
        self, repository: Repository, reference: Reference, ask: Ask, *, insist: bool
    ) -> Manifest:
        """Send the GET; for an index, reserve a pull for one of its platforms."""
        with self._budget.asking(repository):
            registry = self._registries[repository.upstream]
            name = repository.name
            pulled = await registry.get_manifest(name, reference, ask, insist=insist)
        if pulled.descriptor.media_type in media.INDEXES:
            missing = self._missing(repository, pulled)
            self._budget.promise(repository, pulled.descriptor.digest, missing, ask.client)
        return pulled

    def _cannot_be_had(
        self, repository: Repository, reference: Reference, reason: StaleReason
    ) -> None:
        if isinstance(reference, Digest):
            self._tags.lost(repository, reference, reason)

    def _follow_no_more(self, repository: Repository, digest: Digest) -> None:
        key = repository.upstream, digest
        if self._leaders.get(key) == repository:
            del self._leaders[key]

    def _missing(self, repository: Repository, index: Manifest) -> list[Digest]:
        """Return the platforms of an index that are not stored.

        A stored platform is useless to a client of another platform, which would have pulled the
        index in vain. If no client needs a missing one, a pull is reserved in vain for 30 s.
        """
        return [child for child in index.platforms if not self.kept.within(repository, child)]


def is_of_digest(failure: UpstreamFailure) -> bool:
    """Whether a GET by tag may succeed where a GET by digest failed: its path is another one.

    A pull limit, a share, an unreachable host and a document that must not be stored fail both.
    """
    if isinstance(failure, TooManyRequests):
        return type(failure) is TooManyRequests
    return not isinstance(failure, HostUnreachable | ManifestUnfit)


def _refused_for(failure: UpstreamFailure) -> float:
    return _WRONG_FOR if isinstance(failure, UpstreamMisbehaved) else _REFUSED_FOR
