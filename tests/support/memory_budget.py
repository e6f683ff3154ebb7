"""A pull budget in memory: a number of pulls that never come back, for tests of all that pulls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from mirror.budget.protocol import Outlook
from mirror.budget.pull_request import PullRequest
from mirror.oci.digest import Digest
from mirror.oci.errors import PullLimitSpent, TooManyRequests
from mirror.oci.names import Reference
from mirror.upstream.telemetry import UpstreamResponse


class MemoryBudget:
    """One budget for all upstreams, of so many pulls; None for any number. No client has a share.

    `observed` are the responses, each with the request that it is about; `hinted` the hints.
    """

    def __init__(self, pulls: int | None = None) -> None:
        self.left = pulls
        self.running = 0
        self.observed: list[tuple[UpstreamResponse, PullRequest | None]] = []
        self.hinted: list[tuple[PullRequest, Collection[Digest] | None]] = []
        self._told: dict[Reference, int] = {}  # cost, by what a HEAD named
        self._platforms: dict[Reference, frozenset[Digest]] = {}  # by index
        self._ended = asyncio.Event()  # set, and replaced, when a pull has ended

    def __repr__(self) -> str:
        return f"<MemoryBudget: {self.left} left, {self.running} running>"

    def outlook(self, request: PullRequest) -> Outlook:
        """See `PullBudget`."""
        return Outlook(self._gate(), self._refusal(request), limited=self.left is not None)

    def counts(self, upstream: str) -> bool:  # noqa: ARG002 - one budget for all
        """See `PullBudget`."""
        return self.left is not None

    def admit(self, request: PullRequest) -> AbstractAsyncContextManager[None]:
        """See `PullBudget`."""
        if refusal := self._refusal(request):
            raise refusal
        if granted := self._goes(request):
            self._take(request)
        return self._permit(request, granted=granted)

    @asynccontextmanager
    async def _permit(self, request: PullRequest, *, granted: bool) -> AsyncIterator[None]:
        while not granted:
            if refusal := self._refusal(request):
                raise refusal
            if granted := self._goes(request):
                self._take(request)
            else:
                await self._ended.wait()
        try:
            yield
        finally:
            self.running -= request.cost
            self._ended.set()
            self._ended = asyncio.Event()

    def hint(self, request: PullRequest, platforms: Collection[Digest] | None = None) -> None:
        """See `PullBudget`."""
        self.hinted.append((request, platforms))
        if platforms is None:
            self._told[request.target] = request.cost
        elif platforms:
            self._platforms[request.target] = frozenset(platforms)

    def observe(self, response: UpstreamResponse, request: PullRequest | None = None) -> None:
        """See `PullBudget`."""
        self.observed.append((response, request))
        if response.counted and self.left is not None:
            self.left -= 1
        if response.limit is not None:
            self.left = response.limit.remaining
        if response.spent:
            self.left = 0

    def _take(self, request: PullRequest) -> None:
        self.running += request.cost
        self._told.pop(request.target, None)
        kept = self._platforms.items()
        self._platforms = {index: some for index, some in kept if request.target not in some}

    def _available(self, request: PullRequest) -> int:
        if self.left is None:
            return request.cost
        kept = sum(request.target not in some for some in self._platforms.values())
        if request.stale_age is not None:
            kept += sum(self._told.values()) - self._told.get(request.target, 0)
        return self.left - self.running - kept

    def _goes(self, request: PullRequest) -> bool:
        return request.cost <= self._available(request)

    def _gate(self) -> PullLimitSpent | None:
        spent = self.left is not None and self.left <= 0 and not self.running
        return PullLimitSpent("no pull is left", retry_after=60) if spent else None

    def _refusal(self, request: PullRequest) -> TooManyRequests | None:
        waits = self.running if request.stale_age is None else 0
        if self._gate() is None and request.cost <= self._available(request) + waits:
            return None
        return self._gate() or PullLimitSpent("too few pulls are left", retry_after=60)
