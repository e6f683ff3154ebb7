"""A budget window: what is spent of a pull limit, what is left, when it comes back. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from mirror.upstream.answers import PullLimit

HUB_WINDOW = 6 * 3600  # seconds; Docker Hub's, and the guess for upstreams that do not say
RECENT = 3600.0  # seconds over which the rate of spending is taken
PROBE = 900.0  # seconds after which "nothing is left" is doubted: others' pulls come back unseen


@dataclass(frozen=True, slots=True)
class Word:
    """What upstream said last of its limit, `at` some second of the timer.

    `others` are the pulls that it had counted and we had not: of others behind the same address.
    Below zero it had counted fewer than we.
    """

    limit: int
    remaining: int
    source: str
    at: float
    others: int


class Window:
    """One account's pulls of the last `length` seconds, and its limit: upstream's, else `limit`.

    Times are seconds of a clock that never steps. A pull comes back `length` seconds after it was
    counted. What upstream says is right at the moment it is said; what we spent since is taken
    from it, what came back of our own since is added.
    """

    def __init__(self, length: float = HUB_WINDOW, limit: int | None = None) -> None:
        self.length = length
        self.word: Word | None = None
        self.running = 0  # pulls that were granted and may be counted any moment
        self._configured = limit
        self._pulls: deque[float] = deque()
        self._since = 0  # pulls counted since upstream's word
        self._back = 0  # pulls that came back since then
        self._samples: deque[tuple[float, int]] = deque()  # others' pulls, over time

    def __repr__(self) -> str:
        return f"<Window: {len(self._pulls)} pulls of {self.limit or 'any number'}>"

    # What happens

    def count(self, at: float) -> None:
        """Note a pull that upstream counted."""
        self._pulls.append(at)
        self._since += 1

    def hear(self, limit: PullLimit, sent: float, now: float) -> None:
        """Note what upstream says in answer to what was asked at `sent`.

        Answers overtake each other: one that was asked for before the last word came may be the
        older of the two, so that it can only lower what that said.
        """
        self.length = limit.window or self.length
        used, remaining, last = self.used(now), limit.remaining, self.word
        if last is not None and sent < last.at and self._same(last, limit):
            remaining = min(remaining, last.remaining)
        others = limit.limit - remaining - used
        if self.running > 1 and last is not None:  # any of these may be among what it counted
            others = last.others
        self.word = Word(limit.limit, remaining, limit.source, now, others)
        self._since = self._back = 0
        self._sample(now, others)

    def lift(self) -> None:
        """Note that upstream names no limit any more."""
        self.word = None
        self._samples.clear()

    # What follows

    @property
    def limit(self) -> int | None:
        """Pulls that are allowed in a window; None where nobody says."""
        return self._configured if self.word is None else self.word.limit

    def used(self, now: float) -> int:
        """Return our pulls of the window that ends now; each falls out of it just once."""
        while self._pulls and self._pulls[0] <= now - self.length:
            at = self._pulls.popleft()
            if self.word is not None and at <= self.word.at:
                self._back += 1
        return len(self._pulls)

    def left(self, now: float) -> int | None:
        """Return how many pulls may be granted, at least 0; None where there is no limit."""
        used, limit, word = self.used(now), self.limit, self.word
        if limit is None:
            return None
        if word is None or word.at + self.length <= now:
            return max(0, limit - used - self.running)
        left = min(limit, word.remaining - self._since + self._back) - self.running
        if left <= 0 and not self.running and self.others(now) > 0 and now >= word.at + PROBE:
            return 1  # to find out
        return max(0, left)

    def others(self, now: float) -> int:
        """Return the pulls of others behind the same address, as far as upstream told."""
        word = self.word
        return word.others if word is not None and now < word.at + self.length else 0

    def pulls(self, now: float) -> list[float]:
        """Return when our pulls of the window were counted, the oldest first."""
        self.used(now)
        return list(self._pulls)

    def returns(self, now: float) -> Iterator[float]:
        """Yield in how many seconds each of our pulls comes back, the first first."""
        return (at + self.length - now for at in self.pulls(now))

    def back_in(self, now: float, pulls: int = 1) -> float:
        """Return after how many seconds so many pulls more are left, or can be known to be.

        When others' come back nobody tells; that is worth asking about sooner.
        """
        own = list(self.returns(now))
        known = own[pulls - 1] if pulls <= len(own) else math.inf
        if self.word is not None:
            unknown = PROBE if self.others(now) > 0 or not own else self.length
            known = min(known, max(0.0, self.word.at + unknown - now))
        return known if known < math.inf else self.length

    def whole_in(self, now: float) -> float:
        """Return after how many seconds all pulls are left, if none is spent until then."""
        last = max(self.returns(now), default=0.0)
        if self.word is not None and self.others(now) > 0:
            last = max(last, self.word.at + self.length - now)
        return last

    def rate(self, now: float) -> float:
        """Return pulls a second of the last hour: ours, and those of others that we know of."""
        ours = sum(1 for _ in takewhile(lambda at: at > now - RECENT, reversed(self._pulls)))
        samples = [others for at, others in self._samples if at > now - RECENT]
        foreign = max(0, samples[-1] - samples[0]) if samples else 0
        return (ours + foreign) / RECENT

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
        if self.word is not None and self.others(now) > 0:
            incoming.append((self.word.at + self.length - now, self.word.others))
        return sorted(incoming)

    def _same(self, word: Word, limit: PullLimit) -> bool:
        return (word.limit, word.source) == (limit.limit, limit.source)

    def _sample(self, now: float, others: int) -> None:
        """Keep one of each minute of the last hour, and the newest."""
        while self._samples and self._samples[0][0] <= now - RECENT:
            self._samples.popleft()
        if len(self._samples) > 1 and now - self._samples[-2][0] < 60:
            self._samples.pop()
        self._samples.append((now, others))
