"""One account's budget: which pulls go, which wait, which are refused and until when. Decisions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from cachetools import LRUCache

from mirror.cache.ledger import Past
from mirror.cache.shares import Shares, Spending
from mirror.cache.window import HUB_WINDOW, Window
from mirror.oci.digest import Digest
from mirror.oci.errors import PullLimitSpent, ReserveKept, ShareSpent, TooManyRequests
from mirror.oci.patterns import Patterns
from mirror.sizes import duration
from mirror.upstream.answers import PullLimit

_PLENTY = 0.5  # of the limit: while more is left, nothing is saved at the cost of freshness
_DOUBT = 60.0  # seconds to leave upstream alone where it refuses a pull that we think is left
_EXEMPT = 10_000  # repositories remembered as such
_PROMISED = 30.0  # seconds in which a client asks for what a HEAD or an index told it of
_TOLD = 256  # manifests that clients were told of and have not asked for yet

E = TypeVar("E", bound=TooManyRequests)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an operator says of a budget.

    `user` is whom upstream is asked as, empty where anonymous. `limit` and `length` (in seconds)
    are for an upstream that does not say itself; `reserve` pulls are kept for the repositories in
    `reserved_for`; `max_stale` is in seconds.
    """

    user: str = ""
    limit: int | None = None
    length: float = HUB_WINDOW
    reserve: int = 0
    reserved_for: Patterns = field(default_factory=lambda: Patterns(()))
    shares: Shares = field(default_factory=Shares)
    max_stale: float = 0.0


@dataclass(frozen=True, slots=True)
class Want:
    """A pull that somebody wants.

    `spare` is one whose client could have something cached instead. `cost` is in pulls: two for an
    index, because its platform's manifest is asked for next.
    """

    repository: str
    reference: str
    client: str
    spare: bool = False
    cost: int = 1


class Go(Enum):
    """What may be said of a pull that is not refused."""

    NOW = "now"
    WAIT = "wait"  # until what runs has ended: that may leave enough


class Account:
    """An upstream's window as one user. Times are seconds of a clock that never steps."""

    def __init__(self, upstream: str, terms: Terms) -> None:
        self.window = Window(terms.length, terms.limit)
        self.spending = Spending()
        self._upstream = upstream
        self._terms = terms
        self._shut_at = self._shut_until = -math.inf
        self._exempt: LRUCache[str, None] = LRUCache(_EXEMPT)
        self._promises: dict[Digest, tuple[float, frozenset[Digest]]] = {}  # by index; until when
        self._told: LRUCache[str, tuple[float, int]] = LRUCache(_TOLD)  # until when, cost

    def __repr__(self) -> str:
        return f"<Account of {self._upstream}: {self.window!r}>"

    # What happens

    def hear(self, limit: PullLimit, sent: float, now: float) -> None:
        """Note what upstream says of its limit; the gate opens if that is that pulls are left."""
        self.window.hear(limit, sent, now)
        if limit.remaining and sent >= self._shut_at:
            self._shut_until = -math.inf

    def lift(self) -> None:
        """Note that upstream names no limit any more."""
        self.window.lift()
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

    def refused(self, retry_after: float | None, now: float) -> None:
        """Note a 429, which shuts the gate for as long as upstream says.

        Where it says nothing, or to ask again at once, it is left alone for a moment all the same.
        """
        self._shut_at, self._shut_until = now, now + (retry_after or _DOUBT)

    def restore(self, past: Past, now: float) -> None:
        """Take up a past, with the gate as it was."""
        pulls = [now - age for age, _ in past.pulls]
        self.window.restore(pulls, past.limit, now - past.limit_age, past.before)
        for at, (_, client) in zip(pulls, past.pulls, strict=True):
            self._spend(at, client)
        if past.shut_for:
            self._shut_at, self._shut_until = now, now + past.shut_for

    def count(
        self, at: float, client: str, sent: float | None = None, *, said: bool = False
    ) -> None:
        """Note a pull that was counted; see `Window.count`."""
        self.window.count(at, sent, said=said)
        self._spend(at, client)

    def _spend(self, at: float, client: str) -> None:
        if party := self._terms.shares.party(client):
            self.spending.count(at, party[0], self.window.length)

    def promise(self, index: Digest, missing: Iterable[Digest], now: float) -> None:
        """Keep a pull for a manifest that an index leads to: it is of no use without."""
        if self.window.limit is not None and (wanted := frozenset(missing)):
            self._promises[index] = (now + _PROMISED, wanted)

    def tell(self, want: Want, now: float) -> None:
        """Keep what it costs for a client that is told of a manifest, and will ask for its digest.

        It is kept from those who could have something cached, and not anew each time: one that
        asks HEAD for ever costs nobody more than the first time.
        """
        if self.window.limit is not None:
            self._told.setdefault(want.reference, (now + _PROMISED, want.cost))

    def take(self, want: Want) -> None:
        """Set aside what a pull costs while it runs."""
        self._told.pop(want.reference, None)
        for index, (_, missing) in self._promises.items():
            if want.reference in missing:
                del self._promises[index]
                break
        self._run(want, want.cost)

    def release(self, want: Want) -> None:
        """Note that a pull has ended, whether it was counted or not."""
        self._run(want, -want.cost)

    def _run(self, want: Want, pulls: int) -> None:
        self.window.running += pulls
        if party := self._terms.shares.party(want.client):
            self.spending.run(party[0], pulls)

    # What is decided

    def shut_in(self, now: float) -> float:
        """Return for how many seconds upstream is not asked for manifests; 0 while it is."""
        refused = self.refused_for(now)
        spent = self.window.left(now) == 0 and not self.window.running
        return max(1.0, refused, self.window.back_in(now)) if spent else refused

    def refused_for(self, now: float) -> float:
        """Return for how many seconds a 429 keeps the gate shut, whatever the window holds."""
        return max(0.0, self._shut_until - now)

    def closed(self, repository: str, now: float) -> PullLimitSpent | None:
        """Return what those are told who ask while the gate is shut."""
        wait = self.shut_in(now)
        if not wait or self.exempts(repository):
            return None
        text = f"{self._upstream}'s pull limit is spent{self._account_of(now)}"
        return _error(PullLimitSpent, text, wait)

    def verdict(self, want: Want, now: float) -> Go | TooManyRequests:
        """Decide whether a pull goes now."""
        left = self.window.left(now)
        if closed := self.closed(want.repository, now):
            return closed
        if left is None or self.exempts(want.repository):
            return Go.NOW
        if overspent := self._overspent(want, now):
            return overspent
        available = self._available(want, left, now)
        if want.cost <= available:
            return Go.NOW
        # What runs may turn out not to be counted. Who has something cached need not know.
        if not want.spare and want.cost <= available + self.window.running:
            return Go.WAIT
        return self._too_few(want, left, available, now)

    def _too_few(self, want: Want, left: int, available: int, now: float) -> TooManyRequests:
        wait = self.window.back_in(now, want.cost - available)
        if want.cost <= left:
            kept = self._kept_from(want)
            text = f"the last {left} pulls of {self._upstream} are kept for {kept}"
            return _error(ReserveKept, text, wait)
        few = f"{self._upstream}'s pull limit is nearly spent, {left} left of {want.cost} wanted"
        return _error(PullLimitSpent, few + self._account_of(now), wait)

    def holds_back(self, want: Want, unconfirmed_for: float, now: float) -> bool:
        """Whether a tag stays what it was for now, so that others' pulls find something left.

        The less is left, the longer: from nothing at half of the limit to `max_stale`.
        """
        left, limit = self.window.left(now), self.window.limit
        if left is None or not limit or self.exempts(want.repository):
            return False
        share = max(0, self._available(want, left, now)) / limit
        return unconfirmed_for < self._terms.max_stale * (1 - share / _PLENTY)

    def _overspent(self, want: Want, now: float) -> ShareSpent | None:
        party, limit = self._terms.shares.party(want.client), self.window.limit
        if party is None or limit is None:
            return None
        (name, share), length = party, self.window.length
        most, used = share.of(limit), self.spending.used(name, now, length)
        if used < most:
            return None
        text = (
            f"{name} has spent its share of {self._upstream}'s pull limit: "
            f"{most} pulls in {duration(length)}"
        )
        return _error(ShareSpent, text, self.spending.back_in(name, now, length))

    def _available(self, want: Want, left: int, now: float) -> int:
        """Take from what is left what is promised to others and kept for chosen repositories."""
        for index in [index for index, (until, _) in self._promises.items() if until <= now]:
            del self._promises[index]
        promised = sum(want.reference not in missing for _, missing in self._promises.values())
        if want.spare:
            promised += self._told_others(want, now)
        chosen = self._terms.reserved_for.match(want.repository)
        return left - promised - (0 if chosen else self._terms.reserve)

    def _told_others(self, want: Want, now: float) -> int:
        """Return what it costs if all others ask for what they were told of just now."""
        return sum(
            cost
            for digest, (until, cost) in self._told.items()
            if until > now and digest != want.reference
        )

    def _kept_from(self, want: Want) -> str:
        if self._terms.reserve and not self._terms.reserved_for.match(want.repository):
            return f"{self._terms.reserved_for}"
        return "manifests that clients were told of just now"

    def _account_of(self, now: float) -> str:
        """Tell where the pulls went."""
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
