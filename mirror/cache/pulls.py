"""Pulls: the GETs that bring manifests, each made once for all who want it, and never in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from cachetools import TLRUCache

from mirror.cache.budget import Budget, Permit, wanted
from mirror.cache.kept import Kept
from mirror.cache.memory import Memory
from mirror.cache.outcome import Why, why
from mirror.cache.refusals import forget
from mirror.cache.tags import Tags
from mirror.flight import Flights
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
from mirror.store.store import Store
from mirror.upstream.answers import Ask

# Seconds in which a manifest that cannot be had is not counted on, and then one in whose place
# something else came, which costs a pull each time. A tag that is kept back for it rests for five
# seconds more, and is to be right again within 15 s of upstream's being well.
_REFUSED_FOR = 5.0
_WRONG_FOR = 9.0
_REFUSED_KEPT = 10_000
_ELSEWHERE = 5.0  # seconds to wait for a pull of the same digest in another repository


class Source(Protocol):
    """What manifests come from; see `Registry` for what it raises."""

    async def hint(self, repository: str, reference: Reference, *, insist: bool = False) -> Hint:
        """Ask by HEAD what a manifest is."""

    async def get_manifest(
        self, repository: str, reference: Reference, ask: Ask, *, insist: bool = True
    ) -> Manifest:
        """Fetch a manifest, once more if it comes wrong and `insist` says so."""


class Pulls:
    """What upstream counts happens here only."""

    def __init__(
        self,
        registries: Mapping[str, Source],
        budget: Budget,
        store: Store,
        tags: Tags,
        memory: Memory,
    ) -> None:
        self._registries = registries
        self._budget = budget
        self._tags = tags
        self.kept = Kept(store, tags, memory, registries)
        self._running: Flights[tuple[Repository, Reference], Manifest] = Flights()
        self._heads: Flights[tuple[Repository, Digest], Hint] = Flights()
        self._leaders: dict[tuple[str, Digest], Repository] = {}  # by upstream
        self._refused: TLRUCache[tuple[Repository, Reference], UpstreamFailure] = TLRUCache(
            _REFUSED_KEPT, lambda _, failure, now: now + _refused_for(failure), budget.now
        )

    def __repr__(self) -> str:
        return f"<Pulls: {len(self._running)} running>"

    async def close(self) -> None:
        """Stop what runs."""
        await self._running.close()
        await self._heads.close()
        await self.kept.close()

    def forget_refusals(self, upstream: str) -> None:
        """Have an upstream be asked again for what failed."""
        forget(self._refused, upstream)

    async def hint(
        self, repository: Repository, reference: Reference, *, spare: bool = False
    ) -> Hint:
        """Ask upstream, which counts no HEAD, what a manifest is.

        Where pulls are counted and there is something to `spare` one, HEAD is asked for though it
        was of no use lately. Raises UpstreamFailure where no answer comes.
        """
        insist = spare and self._budget.present(repository.upstream).window.limit is not None
        registry = self._registries[repository.upstream]
        with self._budget.asking(repository):
            return await registry.hint(repository.name, reference, insist=insist)

    async def confirm(self, repository: Repository, digest: Digest) -> Hint:
        """Ask by HEAD whether a repository has a manifest, once for all who want to know.

        A failure tells as little as a refusal does, and the GET decides; nor does an answer tell
        anything that names neither the digest nor the size of what is kept. Raises PullLimitSpent,
        and HostUnreachable, which a GET would meet as well.
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
        """Return why this manifest could not be had a moment ago."""
        return self._refused.get((repository, digest))

    def unaffordable(
        self, repository: Repository, found: Descriptor, ask: Ask, spare: float
    ) -> TooManyRequests | None:
        """Return why a pull would be refused now; None too where it costs nothing more."""
        if self._running.get((repository, found.digest)) is not None:
            return None
        return self._budget.refusal(repository, wanted(repository, found, ask, spare))

    def expect(self, repository: Repository, found: Descriptor, ask: Ask) -> None:
        """Keep a pull for a client that is told of a manifest, unless it is being pulled."""
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
        """GET a manifest, once for all who want it: this is what upstream counts.

        `found` is what a HEAD told of it; for `spare` see `Want`. Without `insist` one that comes
        wrong is not asked for again: there is another way. Raises ManifestUnknown, Denied, or
        UpstreamFailure.
        """
        refusal = self._refused.get((repository, reference))
        if isinstance(refusal, UpstreamMisbehaved):  # it would cost another pull, for the same
            raise refusal.again()
        if isinstance(reference, Digest):
            found = found or await self._kind(repository, reference, ask)
            shared = await self._from_elsewhere(repository, reference)
            if shared is not None:
                return shared
        met = False
        while running := self._running.get((repository, reference)):
            try:
                return await asyncio.shield(running)  # whoever joins spends nothing
            except ShareSpent:  # that concerns who began it, and waited until it was spent
                await asyncio.sleep(0)  # until it has left
            except RegistryError as failure:  # of another's question, which failed once
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
        """Ask, which costs nothing, what a manifest is, if there may be too little for an index."""
        if self._running.get((repository, digest)) is not None:
            return None
        if not self._budget.refuses_index(repository, wanted(repository, None, ask)):
            return None
        return (await self.confirm(repository, digest)).descriptor

    async def _from_elsewhere(self, repository: Repository, digest: Digest) -> Manifest | None:
        """Wait for a pull of the same digest in another repository of the same upstream.

        A HEAD is all that it costs then.
        """
        key = repository.upstream, digest
        leader = self._leaders.get(key)
        while leader is not None and leader != repository:
            task = self._running.get((leader, digest))
            if task is None:  # it ended as another of its repository joined it
                del self._leaders[key]
                return None
            await asyncio.wait([task], timeout=_ELSEWHERE)
            if not task.done():  # it may hang for that repository only
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
            if not isinstance(reference, Digest):  # here, for whoever asked may have left
                self._tags.put((repository, reference), kept.descriptor)
                self._tags.arrived(repository, kept.descriptor.digest)
        except ShareSpent:  # others may have it
            raise
        except UpstreamFailure as failure:
            self._refused[repository, reference] = failure.again()  # a value, without frames
            self._cannot_be_had(repository, reference, why(failure))
            raise
        except ManifestUnknown:  # a copy of the registry may not have it yet
            self._cannot_be_had(repository, reference, Why.FAULT)
            raise
        else:
            return kept
        finally:
            if isinstance(reference, Digest):
                self._follow_no_more(repository, reference)

    async def _get(
        self, repository: Repository, reference: Reference, ask: Ask, *, insist: bool
    ) -> Manifest:
        """Ask for it, and keep a pull for what an index leads to."""
        with self._budget.asking(repository):
            registry = self._registries[repository.upstream]
            name = repository.name
            pulled = await registry.get_manifest(name, reference, ask, insist=insist)
        if pulled.descriptor.media_type in media.INDEXES:
            missing = self._missing(repository, pulled)
            self._budget.promise(repository, pulled.descriptor.digest, missing, ask.client)
        return pulled

    def _cannot_be_had(self, repository: Repository, reference: Reference, reason: Why) -> None:
        if isinstance(reference, Digest):
            self._tags.lost(repository, reference, reason)

    def _follow_no_more(self, repository: Repository, digest: Digest) -> None:
        key = repository.upstream, digest
        if self._leaders.get(key) == repository:
            del self._leaders[key]

    def _missing(self, repository: Repository, index: Manifest) -> list[Digest]:
        """List the platforms of an index that are not here.

        One that is here is of no use to a client of another, whose pull of the index would be in
        vain. Where nobody wants one, a pull is kept in vain, for half a minute.
        """
        return [child for child in index.platforms if not self.kept.within(repository, child)]


def is_of_digest(failure: UpstreamFailure) -> bool:
    """Whether a GET by digest failed in a way that a GET by tag need not: it has another path.

    A pull limit, a share, a host that cannot be reached and a document that must not be kept are
    the same for both.
    """
    if isinstance(failure, TooManyRequests):
        return type(failure) is TooManyRequests
    return not isinstance(failure, HostUnreachable | ManifestUnfit)


def _refused_for(failure: UpstreamFailure) -> float:
    return _WRONG_FOR if isinstance(failure, UpstreamMisbehaved) else _REFUSED_FOR
