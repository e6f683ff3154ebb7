"""The budget of one account: decides which pulls go, wait or are refused, and until when."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from cachetools import LRUCache

from mirror.budget.head_cost import HeadCost
from mirror.budget.ledger import Past
from mirror.budget.protocol import Outlook
from mirror.budget.pull_request import PullRequest
from mirror.budget.reservations import RESERVED_FOR, Reservations
from mirror.budget.shares import Shares, Spending
from mirror.budget.window import Window
from mirror.oci.digest import Digest
from mirror.oci.errors import PullLimitSpent, ReserveKept, ShareSpent, TooManyRequests
from mirror.oci.names import HUB_WINDOW
from mirror.oci.patterns import Patterns
from mirror.upstream.telemetry import PullLimit
from mirror.util.units import duration

_SAVING_BELOW = 0.5  # of the limit: while more is left, no tag is held back to save pulls
_SHUT_FOR = (
    10.0  # seconds without a question, where upstream refuses a pull and does not say how long
)
_EXEMPT = 10_000  # repositories remembered as such
_TOLD_SHARE = 0.5  # of the limit: the most that is reserved for manifests that HEADs named

E = TypeVar("E", bound=TooManyRequests)


@dataclass(frozen=True, slots=True)
class BudgetPolicy:
    """The budget settings of one upstream.

    `user` is the account that upstream is asked as, empty if anonymous. `pull_limit` and
    `pull_window` (in seconds) apply where upstream names no limit; `reserve` pulls are held back
    for the repositories in `reserved_for`; `max_stale` is in seconds.
    """

    user: str = ""
    pull_limit: int | None = None
    pull_window: float = HUB_WINDOW
    reserve: int = 0
    reserved_for: Patterns = field(default_factory=lambda: Patterns(()))
    shares: Shares = field(default_factory=Shares)
    max_stale: float = 0.0


class Verdict(Enum):
    """The verdict on a pull that is not refused."""

    GRANTED = "granted"
    PENDING = "pending"  # until the running pulls have ended: they may leave enough


class Account:
    """An upstream's window for one account. Times are seconds of a monotonic clock."""

    def __init__(self, upstream: str, policy: BudgetPolicy) -> None:
        self.window = Window(policy.pull_window, policy.pull_limit)
        self.spending = Spending(policy.shares)
        self._upstream = upstream
        self._policy = policy
        self._shut_at = self._shut_until = -math.inf
        self._exempt: LRUCache[str, None] = LRUCache(_EXEMPT)
        self._reservations = Reservations()
        self.head_cost = HeadCost()

    def __repr__(self) -> str:
        return f"<Account of {self._upstream}: {self.window!r}>"

    def change(self, policy: BudgetPolicy) -> None:
        """Replace the policy; recorded pulls and limits stay."""
        if policy.shares != self._policy.shares:
            self.spending.change(policy.shares)
        self._policy = policy
        self.window.configure(policy.pull_window, policy.pull_limit)

    # Events

    def observe_limit(self, limit: PullLimit, sent: float, now: float) -> None:
        """Note the limit that upstream names; the gate opens if pulls are left."""
        self.window.observe(limit, sent, now)
        if limit.remaining and sent >= self._shut_at:
            self._shut_until = -math.inf

    def drop_limit(self) -> None:
        """Note that upstream names no limit any more."""
        self.window.drop_limit()
        self._shut_until = -math.inf

    def exempt(self, repository: str, *, exempt: bool) -> None:
        """Note whether upstream leaves a repository out of the limit."""
        if exempt:
            self._exempt[repository] = None
        else:
            self._exempt.pop(repository, None)

    def exempts(self, repository: str) -> bool:
        """Whether upstream leaves a repository out of the limit."""
        return repository in self._exempt

    def shut(self, retry_after: float | None, now: float) -> None:
        """Note a 429, which shuts the gate for as long as upstream says.

        Where it names no time, or zero, upstream is not asked for some seconds.
        """
        self._shut_at, self._shut_until = now, now + (retry_after or _SHUT_FOR)

    def restore(self, past: Past, now: float) -> None:
        """Restore the past that the ledger has, and the gate with it."""
        pulls = [now - age for age, _ in past.pulls]
        self.window.restore(pulls, past.limit, now - past.limit_age, past.before)
        for at, (_, client) in zip(pulls, past.pulls, strict=True):
            self.spending.count(at, client, self.window.length)
        if past.shut_for:
            self._shut_at, self._shut_until = now, now + past.shut_for

    def count(
        self, at: float, client: str, sent: float | None = None, *, reported: bool = False
    ) -> None:
        """Note a counted pull; see `Window.count`."""
        self.head_cost.pulled()
        self.window.count(at, sent, reported=reported)
        self.spending.count(at, client, self.window.length)

    def hint(self, request: PullRequest, platforms: Collection[Digest] | None, now: float) -> None:
        """Reserve a pull, unless there is no limit; see `PullBudget.hint`."""
        if self.window.limit is None:
            return
        if platforms is None:
            self._reservations.after_head(request, now)
        else:
            party = self._policy.shares.party(request.client)
            self._reservations.after_index(request, platforms, party and party[0], now)

    def take(self, request: PullRequest) -> None:
        """Reserve the cost of a pull while it runs."""
        self._reservations.fulfil(request.target)
        self._run(request, request.cost)

    def release(self, request: PullRequest) -> None:
        """Note that a pull has ended, whether it was counted or not."""
        self._run(request, -request.cost)

    def _run(self, request: PullRequest, pulls: int) -> None:
        self.window.running += pulls
        self.spending.run(request.client, pulls)

    # Decisions

    def shut_for(self, now: float) -> float:
        """Return the seconds until upstream is asked for manifests again; 0 if the gate is open."""
        refused = self.refused_for(now)
        spent = self.window.left(now) == 0 and not self.window.running
        return max(1.0, refused, self.window.back_in(now)) if spent else refused

    def refused_for(self, now: float) -> float:
        """Return for how many seconds a 429 keeps the gate shut, apart from the window."""
        return max(0.0, self._shut_until - now)

    def gate(self, repository: str, now: float) -> PullLimitSpent | None:
        """Return the refusal of a request while the gate is shut, else None."""
        wait = self.shut_for(now)
        if not wait or self.exempts(repository):
            return None
        text = f"{self._upstream}'s pull limit is spent{self._account_of(now)}"
        return _error(PullLimitSpent, text, wait)

    def outlook(self, request: PullRequest, now: float) -> Outlook:
        """Return the prospect of a pull."""
        gate = self.gate(request.repository.name, now)
        verdict = gate or self._behind_gate(request, now)
        return Outlook(
            gate=gate,
            refusal=verdict if isinstance(verdict, TooManyRequests) else None,
            held_back=self.holds_back(request, now),
            limited=self.window.limit is not None,
            heads_counted=self.head_cost.counted,
        )

    def verdict(self, request: PullRequest, now: float) -> Verdict | TooManyRequests:
        """Decide whether a pull goes now."""
        return self.gate(request.repository.name, now) or self._behind_gate(request, now)

    def _behind_gate(self, request: PullRequest, now: float) -> Verdict | TooManyRequests:
        left = self.window.left(now)
        if left is None or self.exempts(request.repository.name):
            return Verdict.GRANTED
        if overspent := self._overspent(request, now):
            return overspent
        available = self._available(request, left, now) - self._reserved_after_heads(request, now)
        if request.cost <= available:
            return Verdict.GRANTED
        # Running pulls may turn out not to be counted. With a stored copy there is no need to know.
        if request.stale_age is None and request.cost <= available + self.window.running:
            return Verdict.PENDING
        return self._too_few(request, left, available, now)

    def _too_few(
        self, request: PullRequest, left: int, available: int, now: float
    ) -> TooManyRequests:
        wait = self.window.back_in(now, request.cost - available)
        last = f"the last {left} pulls of {self._upstream} are reserved for"
        if request.cost <= left - self._reserve(request):
            text = f"{last} manifests that clients were just told of"
            return _error(ReserveKept, text, min(wait, RESERVED_FOR))
        if request.cost <= left:
            return _error(ReserveKept, f"{last} {self._policy.reserved_for}", wait)
        few = f"{self._upstream}'s pull limit is nearly spent, {left} left of {request.cost} wanted"
        return _error(PullLimitSpent, few + self._account_of(now), wait)

    def holds_back(self, request: PullRequest, now: float) -> bool:
        """Whether a tag keeps its older digest for now, so that pulls are left for other requests.

        The fewer are left, the longer: from zero at half of the limit to `max_stale`.
        """
        left, limit = self.window.left(now), self.window.limit
        if (
            request.stale_age is None
            or left is None
            or not limit
            or self.exempts(request.repository.name)
        ):
            return False
        share = max(0, self._available(request, left, now)) / limit
        return request.stale_age < self._policy.max_stale * (1 - share / _SAVING_BELOW)

    def _overspent(self, request: PullRequest, now: float) -> ShareSpent | None:
        """Return the refusal of a request that would exceed its client's share, else None.

        The reserved manifest of an index that a party paid for is spent, too, but not for its
        request.
        """
        party, limit = self._policy.shares.party(request.client), self.window.limit
        if party is None or limit is None:
            return None
        (name, share), length = party, self.window.length
        used = self.spending.used(name, now, length)
        used += self._reservations.reserved_by(name, request.target, now)
        most = share.of(limit)
        if used + request.cost <= most:
            return None
        text = f"share of {self._upstream}'s pull limit: {most} pulls in {duration(length)}"
        if request.cost > most:  # a retry cannot succeed
            small = f"an image of several platforms costs {request.cost} pulls, more than {name}'s"
            return ShareSpent(f"{small} whole {text}", retry_after=math.ceil(length))
        wait = self.spending.back_in(name, used + request.cost - most, now, length)
        if used < most:
            some = f"{name} has {most - used} left of {request.cost} wanted of its"
            return _error(ShareSpent, f"{some} {text}", wait)
        return _error(ShareSpent, f"{name} has spent its {text}", wait)

    def _available(self, request: PullRequest, left: int, now: float) -> int:
        """Return the pulls left without those reserved for others and for chosen repositories."""
        return left - self._reservations.reserved(request.target, now) - self._reserve(request)

    def _reserve(self, request: PullRequest) -> int:
        chosen = self._policy.reserved_for.match(request.repository.name)
        return 0 if chosen else self._policy.reserve

    def _reserved_after_heads(self, request: PullRequest, now: float) -> int:
        """Return the pulls held back from a request for clients that a HEAD told of a manifest.

        Some clients send HEADs for ever and never pull. So the pulls are a part of the limit at
        most, and none is held back from a tag with a change that has waited for long enough.
        """
        limit = self.window.limit
        if limit is None or request.stale_age is None:
            return 0
        if request.stale_age >= max(self._policy.max_stale, RESERVED_FOR):
            return 0
        return self._reservations.reserved_after_heads(
            request.target, math.ceil(limit * _TOLD_SHARE), now
        )

    def _account_of(self, now: float) -> str:
        """Describe where the pulls went."""
        limit, window = self.window.limit, self.window
        if limit is None:
            return ""
        others = window.others(now)
        elsewhere = f", {others} by others behind the same address" if others > 0 else ""
        spent = f"{window.used(now)} by this mirror{elsewhere}"
        return f": {limit} in {duration(window.length)}, {spent}"


def _error(kind: type[E], text: str, wait: float) -> E:
    wait = max(1, math.ceil(min(wait, 86_400)))
    return kind(f"{text}; try again in {duration(wait)}", retry_after=wait)
