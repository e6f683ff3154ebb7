"""A budget window: what is spent of a pull limit, what is left, when it comes back. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from mirror.upstream.answers import PullLimit

HOUR = 3600  # seconds
HUB_WINDOW = 6 * HOUR  # seconds; Docker Hub's, and the guess for upstreams that do not say
_RECENT = 3600.0  # seconds over which the rate of spending is taken
# Pulls that are remembered of an account, in memory and in the ledger: of an upstream without a
# limit there may be any number. A limit of more is upstream's own to know.
MOST_PULLS = 100_000
PROBE = 900.0  # seconds after which "nothing is left" is doubted: others' pulls come back unseen


def recent(length: float) -> float:
    """Return over how many seconds of a window the rate is taken.

    A small part of it: over all of it, what is spent would always be what comes back.
    """
    return min(_RECENT, length / 6)


@dataclass(frozen=True, slots=True)
class Word:
    """What upstream said last of its limit, `at` some second of the timer.

    `remaining` is below zero where we had spent more than is allowed: upstream tells no debts.
    `others` are the pulls that it had counted and we had not: of others behind the same address.
    Below zero it had counted fewer than we.
    """

    limit: int
    remaining: int
    source: str
    at: float
    others: int


class _Pull(NamedTuple):
    """A pull that upstream counted after it was `sent`, and before it was answered `at`.

    `said` is that its own answer tells what is left.
    """

    at: float
    sent: float
    said: bool


class _Said(NamedTuple):
    """An answer that came `at` some second: so many pulls were `left` when it was given.

    `back` are the pulls that had come back by then or may have, `since` those that were counted
    without a word of their own.
    """

    left: int
    at: float
    back: int
    since: int


class Window:
    """One account's pulls of the last `length` seconds, and its limit: upstream's, else `limit`.

    Times are seconds of a clock that never steps. A pull comes back `length` seconds after it was
    counted. What upstream says is right at the moment it is said, which lies between asking and
    the answer: what we spent since asking is taken from it, unless it tells of that itself, and
    what came back of our own since the answer is added.
    """

    def __init__(self, length: float = HUB_WINDOW, limit: int | None = None) -> None:
        self.length = length
        self.word: Word | None = None
        self.running = 0  # pulls that were granted and may be counted any moment
        self._configured = limit
        self._pulls: deque[_Pull] = deque()
        self._said: deque[_Said] = deque()  # answers of which any may be the newest
        self._slowest = 0.0  # seconds from asking to the answer of any of these
        self._back = 0  # pulls that came back, ever
        self._since = 0  # pulls that were counted without a word of their own, ever
        self.unsaid = 0  # pulls that were counted since upstream's word
        self._samples: deque[tuple[float, int]] = deque()  # others' pulls, over time

    def __repr__(self) -> str:
        return f"<Window: {len(self._pulls)} pulls of {self.limit or 'any number'}>"

    def configure(self, length: float, limit: int | None) -> None:
        """Have another `length` and `limit` where upstream does not say them itself."""
        self._configured = limit
        if self.word is None:
            self.length = length

    # What happens

    def count(self, at: float, sent: float | None = None, *, said: bool = False) -> None:
        """Note a pull that upstream counted; `said` if its answer tells what is left, too."""
        sent = at if sent is None else sent
        self._slowest = max(self._slowest, at - sent)
        self._pulls.append(_Pull(at, sent, said))
        if len(self._pulls) > MOST_PULLS:
            self._pulls.popleft()
        self._since += not said
        self.unsaid += 1

    def hear(self, limit: PullLimit, sent: float, now: float) -> None:
        """Note what upstream says in answer to what was asked at `sent`.

        Answers overtake each other. One that came before this was asked for is the older of the
        two; of all others any may be the newest, so that the lowest counts.
        """
        last = self.word
        if last is not None and not self._same(last, limit):
            self._said.clear()
        self.length = limit.window or self.length
        self._add(limit, sent, now)
        left = self._lowest()
        others = limit.limit - left - self.used(now)
        if self.running > 1 and last is not None:  # any of these may be among what it counted
            others = last.others
        self.word = Word(limit.limit, left, limit.source, now, others)
        self.unsaid = 0
        self._sample(now, others)

    def _add(self, limit: PullLimit, sent: float, now: float) -> None:
        used, left = self.used(now), limit.remaining
        if left <= 0:  # it tells no debts: those of a limit that was lowered are ours to know
            left = min(left, limit.limit - used)
        untold = takewhile(lambda pull: pull.at > sent, reversed(self._pulls))
        left -= sum(not pull.said for pull in untold)
        since = now - self.length
        oldest = takewhile(lambda pull: pull.at <= since + self._slowest, self._pulls)
        maybe_back = sum(pull.sent < since for pull in oldest)
        said = _Said(left, now, self._back + maybe_back, self._since)
        while self._said and self._said[0].at < sent:
            self._said.popleft()
        while self._said and self._left_by(self._said[-1]) >= left:
            self._said.pop()  # never again the lowest: more comes back to the older of the two
        self._said.append(said)

    def restore(
        self, pulls: Sequence[float], said: PullLimit | None, at: float, before: int
    ) -> None:
        """Take up a past in its order: so many pulls `before` what was said, and when it was."""
        for pull in pulls[:before]:
            self.count(pull)
        if said is not None:
            self.hear(said, at, at)
        for pull in pulls[before:]:
            self.count(pull)

    def lift(self) -> None:
        """Note that upstream names no limit any more."""
        self.word = None
        self._said.clear()
        self._samples.clear()

    # What follows

    @property
    def limit(self) -> int | None:
        """Pulls that are allowed in a window; None where nobody says."""
        return self._configured if self.word is None else self.word.limit

    def used(self, now: float) -> int:
        """Return our pulls of the window that ends now; each falls out of it just once."""
        while self._pulls and self._pulls[0].at <= now - self.length:
            self._pulls.popleft()
            self._back += 1
        return len(self._pulls)

    def left(self, now: float) -> int | None:
        """Return how many pulls may be granted, at least 0; None where there is no limit."""
        known = self._known(now)
        if known is None:
            return None
        if not self.running and self._doubtful(now, known) and self._word_at() + PROBE <= now:
            return 1  # to find out
        return max(0, known - self.running)

    def _known(self, now: float) -> int | None:
        """Return what is left by all that is known; below zero where a limit was lowered."""
        used, limit = self.used(now), self.limit
        if limit is None or not self._fresh(now):
            return None if limit is None else limit - used
        return min(limit, self._lowest())

    def _lowest(self) -> int:
        return min(map(self._left_by, self._said))

    def _left_by(self, said: _Said) -> int:
        """Return what is left by one answer, and by what happened since."""
        return said.left + max(0, self._back - said.back) - (self._since - said.since)

    def _doubtful(self, now: float, known: int) -> bool:
        """Whether nothing is left that we know of, and others' pulls may have come back."""
        return known <= 0 and self.others(now) > 0

    def _fresh(self, now: float) -> bool:
        """Whether upstream's word is younger than its window."""
        return now < self._word_at() + self.length

    def _word_at(self) -> float:
        return -math.inf if self.word is None else self.word.at

    def others(self, now: float) -> int:
        """Return the pulls of others behind the same address, as far as upstream told."""
        return self.word.others if self.word is not None and self._fresh(now) else 0

    def idle(self, now: float) -> bool:
        """Whether nothing is known that still matters."""
        return not self.used(now) and not self._fresh(now)

    def pulls(self, now: float) -> list[float]:
        """Return when our pulls of the window were counted, the oldest first."""
        self.used(now)
        return [pull.at for pull in self._pulls]

    def returns(self, now: float) -> Iterator[float]:
        """Yield in how many seconds each of our pulls comes back, the first first."""
        return (at + self.length - now for at in self.pulls(now))

    def back_in(self, now: float, pulls: int = 1) -> float:
        """Return after how many seconds so many pulls more are left, or can be known to be.

        When others' come back nobody tells: where they are in the way, that is asked about sooner.
        """
        own, known = list(self.returns(now)), self._known(now) or 0
        missing = pulls + max(0, -known)
        wait = own[missing - 1] if missing <= len(own) else math.inf
        if self._fresh(now):
            asked = self._word_at() + PROBE
            again = self._doubtful(now, known) and now < asked
            wait = min(wait, (asked if again else self._word_at() + self.length) - now)
        return wait if wait < math.inf else self.length

    def whole_in(self, now: float) -> float:
        """Return after how many seconds all pulls are left, if none is spent until then."""
        last = max(self.returns(now), default=0.0)
        if self.others(now) > 0:
            last = max(last, self._word_at() + self.length - now)
        return last

    def rate(self, now: float) -> float:
        """Return pulls a second, of late: ours, and those of others that we know of."""
        span = recent(self.length)
        since = now - span
        ours = sum(1 for _ in takewhile(lambda pull: pull.at > since, reversed(self._pulls)))
        samples = [others for at, others in self._samples if at > since]
        foreign = max(0, samples[-1] - samples[0]) if samples else 0
        return (ours + foreign) / span

    def lasts(self, now: float) -> float:
        """Return after how many seconds nothing is left at the present rate; infinity for never.

        What comes back meanwhile is spent too; what is spent from now on comes back after a window.
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
        """List what comes back, and when; others' at the latest moment there is."""
        incoming = [(seconds, 1) for seconds in self.returns(now)]
        if (others := self.others(now)) > 0:
            incoming.append((self._word_at() + self.length - now, others))
        return sorted(incoming)

    def _same(self, word: Word, limit: PullLimit) -> bool:
        length = limit.window or self.length
        known = (word.limit, word.source, self.length)
        return known == (limit.limit, limit.source, length)

    def _sample(self, now: float, others: int) -> None:
        """Keep one of each minute of the last hour, and the newest."""
        while self._samples and self._samples[0][0] <= now - _RECENT:
            self._samples.popleft()
        if len(self._samples) > 1 and now - self._samples[-2][0] < 60:
            self._samples.pop()
        self._samples.append((now, others))
