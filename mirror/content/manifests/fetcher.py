"""The fetcher of manifests: each GET is sent once for all its requests, and never in vain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial

from cachetools import TLRUCache

from mirror.budget.protocol import Outlook, PullBudget
from mirror.budget.pull_request import PullRequest
from mirror.content.manifests.source import ManifestSource
from mirror.content.manifests.stored import StoredManifests
from mirror.content.manifests.tags import Tags
from mirror.content.memory_cache import MemoryCache
from mirror.content.outcome import StaleReason, stale_reason
from mirror.content.refusals import forget
from mirror.identity.client import MIRROR_ITSELF
from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    HostUnreachable,
    ManifestUnknown,
    PullLimitSpent,
    RegistryError,
    ShareSpent,
    TooManyRequests,
    UpstreamFailure,
    UpstreamMisbehaved,
    may_pass,
)
from mirror.oci.manifest import Hint, Manifest
from mirror.oci.names import Reference, Repository
from mirror.storage.metadata.rows import TagKey
from mirror.storage.store import Store
from mirror.upstream.telemetry import Observer
from mirror.util.singleflight import SingleFlight

# Seconds for which a failed manifest is not relied on: after a refusal, and after wrong bytes,
# which cost a pull each time. A tag that is reverted for it waits five seconds more, and must be
# right again within 15 s of upstream's recovery.
_REFUSED_FOR = 5.0
_WRONG_FOR = 9.0
_REFUSED_KEPT = 10_000
_ELSEWHERE = 5.0  # seconds to wait for a pull of the same digest in another repository


class ManifestFetcher:
    """Fetches manifests: the only place that sends requests which upstream counts."""

    def __init__(
        self,
        registries: Mapping[str, ManifestSource],
        budget: PullBudget,
        store: Store,
        tags: Tags,
        memory: MemoryCache,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registries = registries
        self._budget = budget
        self._tags = tags
        self.stored = StoredManifests(store, tags, memory, registries)
        self._running: SingleFlight[tuple[Repository, Reference], Manifest] = SingleFlight()
        self._heads: SingleFlight[tuple[Repository, Digest], Hint] = SingleFlight()
        self._leaders: dict[tuple[str, Digest], Repository] = {}  # by upstream
        self._refused: TLRUCache[tuple[Repository, Reference], UpstreamFailure] = TLRUCache(
            _REFUSED_KEPT, lambda _, failure, now: now + _refused_for(failure), timer
        )

    def __repr__(self) -> str:
        return f"<ManifestFetcher: {len(self._running)} running>"

    async def close(self) -> None:
        """Cancel all pulls and questions."""
        await self._running.close()
        await self._heads.close()
        await self.stored.close()

    def forget_refusals(self, upstream: str) -> None:
        """Forget an upstream's failures, so that it is asked again."""
        forget(self._refused, upstream)

    async def hint(self, request: PullRequest) -> Hint:
        """Ask for a manifest's descriptor by HEAD, which upstream does not count.

        If pulls are counted and a stale manifest can save one, the HEAD is sent even if it was
        useless recently. Raises UpstreamFailure if there is no answer.
        """
        registry = self._registries[request.repository.upstream]
        name, observe = request.repository.name, self._observer(request)
        with self._behind_gate(request) as outlook:
            insist = outlook.limited and request.stale_age is not None
            return await registry.hint(name, request.target, observe, insist=insist)

    def may_ask_ahead(self, request: PullRequest) -> bool:
        """Whether a HEAD that no client waits for may be sent: upstream is well, and it is free."""
        if not self._registries[request.repository.upstream].answers_heads:
            return False
        outlook = self._budget.outlook(request)
        return outlook.gate is None and not outlook.heads_counted

    def may_be_counted(self, request: PullRequest) -> bool:
        """Whether upstream may count a pull, as far as that is known."""
        return self._budget.counts(request.repository.upstream)

    @contextmanager
    def _behind_gate(self, request: PullRequest) -> Iterator[Outlook]:
        """Ask upstream for a manifest or its descriptor, unless the gate is shut.

        Raises PullLimitSpent, also in the place of upstream's own 429: the mirror can say more.
        """
        outlook = self._budget.outlook(request)
        if outlook.gate is not None:
            raise outlook.gate
        try:
            yield outlook
        except PullLimitSpent as error:
            raise self._budget.outlook(request).gate or error from error

    def _observer(self, request: PullRequest) -> Observer:
        """Return the observer of responses to a request: upstream's client knows no clients."""
        return partial(self._budget.observe, request=request)

    async def confirm(self, repository: Repository, digest: Digest) -> Hint:
        """Ask by HEAD whether a repository has a manifest (single flight).

        A failure and a refusal decide nothing: the GET does. An answer decides nothing either if it
        has no digest, and another size than the stored copy. Raises PullLimitSpent, and
        HostUnreachable, which a GET would meet as well.
        """
        request = PullRequest(repository, digest, MIRROR_ITSELF)  # for all clients that wait
        try:
            hint = await self._heads.join((repository, digest), lambda: self.hint(request))
        except (HostUnreachable, PullLimitSpent):
            raise
        except UpstreamFailure:
            return Hint()
        known = self.stored.shared(repository, digest)
        wrong = known is not None and hint.inferred and hint.size != known.size
        return Hint() if wrong else hint

    def refusal(self, repository: Repository, digest: Digest) -> UpstreamFailure | None:
        """Return the recent failure of this manifest's pull."""
        return self._refused.get((repository, digest))

    def unaffordable(self, request: PullRequest) -> TooManyRequests | None:
        """Return the refusal that a pull would get now; `None` also if it costs nothing more."""
        return None if self._is_running(request) else self._budget.outlook(request).refusal

    def expect(self, request: PullRequest) -> None:
        """Reserve a pull for a client that is told of a manifest, unless the pull is running."""
        if not self._is_running(request):
            self._budget.hint(request)

    def _is_running(self, request: PullRequest) -> bool:
        return self._running.get((request.repository, request.target)) is not None

    async def pull(self, request: PullRequest, *, insist: bool = True) -> Manifest:
        """Pull a manifest (single flight): upstream counts this request.

        Without `insist` a wrong body is not requested again: the caller has another way. Raises
        ManifestUnknown, Denied, or UpstreamFailure.
        """
        repository, reference = request.repository, request.target
        refusal = self._refused.get((repository, reference))
        if isinstance(refusal, UpstreamMisbehaved):  # a retry costs another pull
            raise refusal.again()
        if isinstance(reference, Digest):
            request = await self._with_cost(request, reference)
            shared = await self._from_elsewhere(repository, reference)
            if shared is not None:
                return shared
        if (joined := await self._join(request)) is not None:
            return joined
        # Nothing is awaited between the look for a running pull and the start of this one.
        permit = self._budget.admit(request)
        if isinstance(reference, Digest):
            self._leaders.setdefault((repository.upstream, reference), repository)
        return await self._running.join(
            (repository, reference), lambda: self._fetch(request, permit, insist=insist)
        )

    async def _join(self, request: PullRequest) -> Manifest | None:
        """Wait for the running pull of the same manifest, which spends nothing; None without one.

        A pull that another client began may fail once, and is then begun again.
        """
        met = False
        while running := self._running.get((request.repository, request.target)):
            try:
                return await asyncio.shield(running)
            except ShareSpent:  # the share of the client that began it and waited for a pull
                await asyncio.sleep(0)  # until the failed pull is removed
            except RegistryError as failure:
                if met or not may_pass(failure):
                    raise
                met = True
        return None

    async def _with_cost(self, request: PullRequest, digest: Digest) -> PullRequest:
        """Ask by HEAD for the cost, if an index may cost more than is left."""
        if request.digest is not None or self._is_running(request):
            return request
        as_index = self._budget.outlook(request.as_index()).refusal
        if as_index is None or self._budget.outlook(request).refusal is not None:
            return request
        found = (await self.confirm(request.repository, digest)).descriptor
        return request.resolved(found) if found is not None else request

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
                stored = await self.stored.read(repository, digest, hint.media_type)
                if stored is not None:
                    return stored
            leader = self._leaders.get(key)
        return None

    async def _fetch(
        self, request: PullRequest, permit: AbstractAsyncContextManager[None], *, insist: bool
    ) -> Manifest:
        repository, reference = request.repository, request.target
        try:
            async with permit:
                pulled = await self._get(request, insist=insist)
            stored = await self.stored.keep(repository, pulled)
            if not isinstance(reference, Digest):  # not in the caller: the client may have left
                self._tags.put(TagKey(repository, reference), stored.descriptor)
                self._tags.arrived(repository, stored.descriptor.digest)
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
            return stored
        finally:
            if isinstance(reference, Digest):
                self._follow_no_more(repository, reference)

    async def _get(self, request: PullRequest, *, insist: bool) -> Manifest:
        """Send the GET; for an index, reserve a pull for one of its platforms."""
        repository = request.repository
        with self._behind_gate(request):
            pulled = await self._registries[repository.upstream].get_manifest(
                repository.name,
                request.target,
                self._observer(request),
                retry_as=request.reference if insist else None,
            )
        if pulled.descriptor.media_type in media.INDEXES:
            index = request.resolved(pulled.descriptor)
            self._budget.hint(index, platforms=self._missing(repository, pulled))
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
        return [child for child in index.platforms if not self.stored.within(repository, child)]


def _refused_for(failure: UpstreamFailure) -> float:
    return _WRONG_FOR if isinstance(failure, UpstreamMisbehaved) else _REFUSED_FOR
