"""A budget window: pulls spent of a pull limit, pulls left, and when they come back. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from mirror.budget.limit_reports import LimitReport, LimitReports
from mirror.oci.names import HUB_WINDOW
from mirror.upstream.telemetry import PullLimit

HOUR = 3600  # seconds
_RECENT = 3600.0  # seconds over which the rate of spending is measured
# Pulls recorded per account, in memory and in the ledger: without a limit there may be any number.
# A limit above this is left to upstream to count.
MOST_PULLS = 100_000
PROBE_AFTER = 900.0  # seconds after which "no pull left" is doubted: foreign pulls come back unseen


def recent(length: float) -> float:
    """Return the span over which the rate is measured, in seconds, for a window of `length`.

    It is a small part of the window: over all of it, as many pulls come back as are spent.
    """
    return min(_RECENT, length / 6)


@dataclass(frozen=True, slots=True)
class ReportedLimit:
    """Upstream's last answer about its limit; `at` is its time, in seconds of the timer.

    `remaining` is negative if the mirror had spent more than the limit: upstream reports no debts.
    `others` are foreign pulls, counted by upstream but not sent by the mirror: by other clients of
    the same address. It is negative if upstream had counted fewer pulls than the mirror.
    """

    limit: int
    remaining: int
    source: str
    at: float
    others: int


class _Pull(NamedTuple):
    """A pull that upstream counted between `sent` and its answer, `at`.

    `reported` tells that the answer names the pulls left.
    """

    at: float
    sent: float
    reported: bool


class Window:
    """One account's pulls of the last `length` seconds, and its limit: upstream's, else `limit`.

    Times are seconds of a monotonic clock. A pull comes back `length` seconds after it was counted.
    Upstream's number is right at one moment between the question and the answer: the mirror's
    pulls since the question are subtracted, unless their own answers name a number, and its
    pulls that came back since the answer are added.
    """

    def __init__(self, length: float = HUB_WINDOW, limit: int | None = None) -> None:
        self.length = length
        self.reported: ReportedLimit | None = None
        self.running = 0  # pulls that were granted, and that upstream may count at any moment
        self._configured = limit
        self._pulls: deque[_Pull] = deque()
        self._reports = LimitReports()
        self._slowest = 0.0  # seconds from sending a pull to its answer, at most
        self._returned = 0  # pulls that came back, ever
        self._unnumbered = 0  # pulls counted from answers without a number, ever
        self.unreported = 0  # pulls counted since upstream's last number
        self._samples: deque[tuple[float, int]] = deque()  # foreign pulls, over time

    def __repr__(self) -> str:
        return f"<Window: {len(self._pulls)} pulls of {self.limit or 'any number'}>"

    def configure(self, length: float, limit: int | None) -> None:
        """Change the `length` and `limit` that are used if upstream names none itself."""
        self._configured = limit
        if self.reported is None:
            self.length = length

    # Events

    def count(self, at: float, sent: float | None = None, *, reported: bool = False) -> None:
        """Record a pull that upstream counted; `reported` if its answer names the pulls left."""
        sent = at if sent is None else sent
        self._slowest = max(self._slowest, at - sent)
        self._pulls.append(_Pull(at, sent, reported))
        if len(self._pulls) > MOST_PULLS:
            self._pulls.popleft()
        self._unnumbered += not reported
        self.unreported += 1

    def observe(self, limit: PullLimit, sent: float, now: float) -> None:
        """Record upstream's limit, from an answer to a question of the time `sent`.

        Answers overtake each other. An answer that arrived before this question was sent is the
        older of the two; of all others any may be the newest, so the lowest number counts.
        """
        last = self.reported
        if last is not None and not self._same(last, limit):
            self._reports.clear()
        self.length = limit.window or self.length
        self._reports.add(self._report(limit, sent, now), sent, self._returned)
        left = self._lowest()
        others = limit.limit - left - self.used(now)
        if self.running > 1 and last is not None:  # upstream may count these already
            others = last.others
        self.reported = ReportedLimit(limit.limit, left, limit.source, now, others)
        self.unreported = 0
        self._sample(now, others)

    def _report(self, limit: PullLimit, sent: float, now: float) -> LimitReport:
        """Return the lowest number of pulls that an answer can mean: it may miss the last ones."""
        used, left = self.used(now), limit.remaining
        if left <= 0:  # upstream reports no debts: after a lowered limit, compute them
            left = min(left, limit.limit - used)
        since = takewhile(lambda pull: pull.at > sent, reversed(self._pulls))
        left -= sum(not pull.reported for pull in since)
        begin = now - self.length
        oldest = takewhile(lambda pull: pull.at <= begin + self._slowest, self._pulls)
        maybe_returned = sum(pull.sent < begin for pull in oldest)
        return LimitReport(left, now, self._returned + maybe_returned, self._unnumbered)

    def restore(
        self, pulls: Sequence[float], limit: PullLimit | None, at: float, before: int
    ) -> None:
        """Load past events in their order: `before` pulls precede the answer of the time `at`."""
        for pull in pulls[:before]:
            self.count(pull)
        if limit is not None:
            self.observe(limit, at, at)
        for pull in pulls[before:]:
            self.count(pull)

    def drop_limit(self) -> None:
        """Record that upstream names no limit any more."""
        self.reported = None
        self._reports.clear()
        self._samples.clear()

    # Results

    @property
    def limit(self) -> int | None:
        """Pulls allowed in a window; None if neither upstream nor the configuration limits them."""
        return self._configured if self.reported is None else self.reported.limit

    def used(self, now: float) -> int:
        """Return the mirror's pulls in the window that ends now; each leaves it just once."""
        while self._pulls and self._pulls[0].at <= now - self.length:
            self._pulls.popleft()
            self._returned += 1
        return len(self._pulls)

    def left(self, now: float) -> int | None:
        """Return how many pulls may be granted, at least 0; None without a limit."""
        known = self._known(now)
        if known is None:
            return None
        if (
            not self.running
            and self._doubtful(now, known)
            and self._reported_at() + PROBE_AFTER <= now
        ):
            return 1  # as a probe
        return max(0, known - self.running)

    def _known(self, now: float) -> int | None:
        """Return the pulls left by all answers and events; negative after a limit was lowered."""
        used, limit = self.used(now), self.limit
        if limit is None or not self._fresh(now):
            return None if limit is None else limit - used
        return min(limit, self._lowest())

    def _lowest(self) -> int:
        return self._reports.lowest(self._returned, self._unnumbered)

    def _doubtful(self, now: float, known: int) -> bool:
        """Whether no pull is known to be left, but foreign pulls may have come back."""
        return known <= 0 and self.others(now) > 0

    def _fresh(self, now: float) -> bool:
        """Whether upstream's last answer is younger than its window."""
        return now < self._reported_at() + self.length

    def _reported_at(self) -> float:
        return -math.inf if self.reported is None else self.reported.at

    def others(self, now: float) -> int:
        """Return the foreign pulls from the same address, by upstream's last answer."""
        return self.reported.others if self.reported is not None and self._fresh(now) else 0

    def idle(self, now: float) -> bool:
        """Whether there are no pulls in the window, and no answer that is still valid."""
        return not self.used(now) and not self._fresh(now)

    def pulls(self, now: float) -> list[float]:
        """Return the times at which the mirror's pulls of the window were counted, oldest first."""
        self.used(now)
        return [pull.at for pull in self._pulls]

    def returns(self, now: float) -> Iterator[float]:
        """Yield the seconds until each of the mirror's pulls comes back, in that order."""
        return (at + self.length - now for at in self.pulls(now))

    def back_in(self, now: float, pulls: int = 1) -> float:
        """Return the seconds until `pulls` more are left, or until upstream can be asked for them.

        No answer tells when foreign pulls come back: if they use up the limit, upstream is asked
        sooner.
        """
        known = self._known(now) or 0
        missing = pulls + max(0, -known)
        own = missing <= self.used(now)
        wait = self._pulls[missing - 1].at + self.length - now if own else math.inf
        if self._fresh(now):
            asked = self._reported_at() + PROBE_AFTER
            again = self._doubtful(now, known) and now < asked
            wait = min(wait, (asked if again else self._reported_at() + self.length) - now)
        return wait if wait < math.inf else self.length

    def all_back_in(self, now: float) -> float:
        """Return the seconds until the whole limit is left, if no pull is spent until then."""
        last = max(self.returns(now), default=0.0)
        if self.others(now) > 0:
            last = max(last, self._reported_at() + self.length - now)
        return last

    def rate(self, now: float) -> float:
        """Return the recent rate in pulls a second: the mirror's, and the known foreign pulls."""
        span = recent(self.length)
        since = now - span
        ours = sum(1 for _ in takewhile(lambda pull: pull.at > since, reversed(self._pulls)))
        samples = [others for at, others in self._samples if at > since]
        foreign = max(0, samples[-1] - samples[0]) if samples else 0
        return (ours + foreign) / span

    def exhausted_in(self, now: float) -> float:
        """Return the seconds until no pull is left at the present rate; infinity for never.

        Pulls that come back meanwhile are spent too; pulls spent from now on come back after a
        window.
        """
        left, rate = self.left(now), self.rate(now)
        if left is None or (rate == 0 and left):
            return math.inf
        if not left:
            return 0.0
        for seconds, pulls in self._incoming(now):
            if left <= rate * seconds:
                break
            left += pulls
        return left / rate if left < rate * self.length else math.inf

    def _incoming(self, now: float) -> list[tuple[float, int]]:
        """List the pulls that come back, and when; foreign pulls count at the latest moment."""
        incoming = [(seconds, 1) for seconds in self.returns(now)]
        if (others := self.others(now)) > 0:
            incoming.append((self._reported_at() + self.length - now, others))
        return sorted(incoming)

    def _same(self, reported: ReportedLimit, limit: PullLimit) -> bool:
        length = limit.window or self.length
        known = (reported.limit, reported.source, self.length)
        return known == (limit.limit, limit.source, length)

    def _sample(self, now: float, others: int) -> None:
        """Keep a sample of foreign pulls per minute of the last hour, and the newest."""
        while self._samples and self._samples[0][0] <= now - _RECENT:
            self._samples.popleft()
        if len(self._samples) > 1 and now - self._samples[-2][0] < 60:
            self._samples.pop()
        self._samples.append((now, others))
