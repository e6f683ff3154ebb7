"""The pull ledger: every counted request, and what upstream says of its limit."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mirror.store.index import Index
from mirror.store.rows import LimitRow, PullRow
from mirror.upstream.answers import Answer, PullLimit

_log = logging.getLogger(__name__)

HUB_WINDOW = 6 * 3600  # seconds; Docker Hub's, and the guess for upstreams that do not say
Account = tuple[str, str]  # the upstream's name and the user's, empty where anonymous


@dataclass(slots=True)
class Window:
    """One account's pulls of the last window, and its limit. `length` is in seconds."""

    length: int = HUB_WINDOW
    limit: int | None = None
    remaining: int | None = None
    source: str = ""
    pulls: deque[int] = field(default_factory=deque)

    def used(self, now: float) -> int:
        """Return the pulls of the window that ends now; each falls out of it just once."""
        while self.pulls and self.pulls[0] <= now - self.length:
            self.pulls.popleft()
        return len(self.pulls)


class Ledger:
    """Counts pulls by upstream and account. `keep` is how many seconds rows stay in the index."""

    def __init__(self, index: Index, keep: int, clock: Callable[[], float] = time.time) -> None:
        self._index = index
        index.sources.append(self._tell)
        self._keep = keep
        self._clock = clock
        self._windows: defaultdict[Account, Window] = defaultdict(Window)

    def __repr__(self) -> str:
        used = sum(window.used for _, window in self.windows())
        return f"<Ledger: {len(self._windows)} accounts, {used} pulls in their windows>"

    async def load(self) -> None:
        """Read the index, and prune it."""
        now = int(self._clock())
        for upstream, account, allowed, remaining, length, source, _ in await self._index.limits():
            window = Window(length, allowed, remaining, source)
            self._windows[upstream, account] = window
        longest = max([HUB_WINDOW, *(window.length for window in self._windows.values())])
        for upstream, account, at in await self._index.pulls(now - longest):
            self._windows[upstream, account].pulls.append(at)
        await self.prune()

    async def prune(self) -> None:
        """Drop from the index what is older than needed."""
        longest = max([HUB_WINDOW, *(window.length for window in self._windows.values())])
        await self._index.prune_pulls(int(self._clock()) - max(self._keep, longest))

    def windows(self) -> Iterator[tuple[Account, State]]:
        """Return every account's state as of now."""
        now = self._clock()
        for account, window in self._windows.items():
            state = State(
                window.limit, window.remaining, window.used(now), window.length, window.source
            )
            yield account, state

    def note(self, answer: Answer) -> None:
        """Take note of an answer of upstream: whether it was counted, what it says of limits."""
        account = (answer.upstream, answer.account)
        if answer.counted:
            self._count(account, answer)
        if answer.limit is not None:
            self._limit(account, answer.limit)

    def _count(self, account: Account, answer: Answer) -> None:
        now = int(self._clock())
        self._windows[account].pulls.append(now)
        ask = answer.ask
        row = PullRow(
            *account,
            now,
            answer.repository,
            ask.reference if ask else answer.asked,
            answer.asked if ":" in answer.asked else "",
            ask.client if ask else "",
        )
        self._index.add_pull(row)
        mark = "@" if row.reference == row.digest else ":"
        pulled = f"{row.upstream}/{row.repository}{mark}{row.reference}"
        _log.info("pull of %s counted for %s", pulled, row.client)

    def _tell(self) -> None:
        """Tell the index how many pulls there were: it was lost, and what they were of with it."""
        for account, window in self._windows.items():
            for at in window.pulls:
                self._index.add_pull(PullRow(*account, at, "", "", "", ""))
            if window.limit is not None and window.remaining is not None:
                limit = PullLimit(window.limit, window.remaining, window.length, window.source)
                self._limit(account, limit)

    def _limit(self, account: Account, limit: PullLimit) -> None:
        window = self._windows[account]
        if limit.window:
            window.length = limit.window
        window.limit, window.remaining, window.source = limit.limit, limit.remaining, limit.source
        self._index.put_limit(
            LimitRow(
                *account,
                limit.limit,
                limit.remaining,
                window.length,
                limit.source,
                int(self._clock()),
            )
        )


@dataclass(frozen=True, slots=True)
class State:
    """An account's budget as of now: `used` by our count, the rest by upstream's word."""

    limit: int | None
    remaining: int | None
    used: int
    window: int
    source: str
