"""The pull ledger in the index: every counted request, upstream's word, what clients asked for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from mirror.cache.window import HUB_WINDOW
from mirror.store.index import Index
from mirror.store.rows import GateRow, LimitRow, PullRow, SpenderRow
from mirror.upstream.answers import Answer, PullLimit

_log = logging.getLogger(__name__)

Key = tuple[str, str]  # the upstream's name and the account's, empty where anonymous
HOUR = 3600


@dataclass(frozen=True, slots=True)
class Past:
    """What the ledger holds of one account. Ages and waits are in seconds, pulls oldest first."""

    pulls: list[tuple[float, str]]  # age, client
    limit: PullLimit | None = None
    limit_age: float = 0.0
    shut_for: float = 0.0


class Ledger:
    """Rows in and out. `keep` is how many seconds they stay, `clock` the one on the wall.

    Only ages leave it: the clock may have been set while nobody looked, and what would lie in the
    future is taken as just now, so that nothing is spent twice.
    """

    def __init__(self, index: Index, keep: float, clock: Callable[[], float] = time.time) -> None:
        self._index = index
        self._keep = keep
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Ledger in {self._index!r}>"

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Have all there is told again should the index be lost while it is in use."""
        self._index.sources.append(tell)

    async def load(self) -> dict[Key, Past]:
        """Read what may still matter, and drop the rest: two windows back, for upstream's word."""
        now = int(self._clock())
        past: dict[Key, Past] = {}
        longest = HUB_WINDOW
        for row in await self._index.limits():
            limit = PullLimit(row.allowed, row.remaining, row.window, row.source)
            past[row.upstream, row.account] = Past([], limit, max(0, now - row.at))
            longest = max(longest, row.window)
        for upstream, account, at, client in await self._index.pulls(now - 2 * longest):
            pulls = past.setdefault((upstream, account), Past([])).pulls
            pulls.append((max(0, now - at), client))
        for gate in await self._index.gates():
            key, rest = (gate.upstream, gate.account), gate.until - now
            known = past.get(key, Past([]))
            past[key] = Past(known.pulls, known.limit, known.limit_age, max(0, rest))
        await self.prune(longest)
        return past

    async def prune(self, longest: float) -> None:
        """Drop what is older than is kept, or than two windows of the `longest` kind."""
        await self._index.prune_pulls(int(self._clock() - max(self._keep, 2 * longest)))

    def add_pull(self, key: Key, answer: Answer) -> None:
        """Enter a counted request."""
        ask = answer.ask
        row = PullRow(
            *key,
            int(self._clock()),
            answer.repository,
            ask.reference if ask else answer.asked,
            answer.asked if ":" in answer.asked else "",
            ask.client if ask else "",
        )
        self._index.add_pull(row)
        mark = "@" if row.reference == row.digest else ":"
        pulled = f"{row.upstream}/{row.repository}{mark}{row.reference}"
        _log.info("pull of %s counted for %s", pulled, row.client)

    def tell_pull(self, key: Key, age: float) -> None:
        """Enter a pull once more, in an index that was lost: what it was of is lost with it."""
        self._index.add_pull(PullRow(*key, int(self._clock() - age), "", "", "", ""))

    def put_limit(self, key: Key, limit: PullLimit, window: float, age: float = 0.0) -> None:
        """Note what upstream said of its limit; `window` in seconds."""
        at = int(self._clock() - age)
        self._index.put_limit(
            LimitRow(*key, limit.limit, limit.remaining, int(window), limit.source, at)
        )

    def drop_limit(self, key: Key) -> None:
        """Note that upstream names no limit any more."""
        self._index.drop_limit(*key)

    def put_gate(self, key: Key, seconds: float) -> None:
        """Note for how long upstream is not to be asked."""
        self._index.put_gate(GateRow(*key, int(self._clock() + seconds)))

    def put_asked(self, upstream: str, hour: int, pulls: int) -> None:
        """Note how many manifests clients pulled in an hour, counted since the epoch."""
        self._index.put_asked(upstream, hour * HOUR, pulls)

    @property
    def hour(self) -> int:
        """The hour that it is, counted since the epoch."""
        return int(self._clock()) // HOUR

    async def asked(self, since: float) -> dict[tuple[str, int], int]:
        """Return how many manifests clients pulled, by upstream and hour, for so many seconds."""
        rows = await self._index.asked(int(self._clock() - since) // HOUR * HOUR)
        return {(upstream, hour // HOUR): pulls for upstream, hour, pulls in rows}

    async def spenders(self, key: Key, since: float, most: int) -> dict[str, list[SpenderRow]]:
        """Return who spent the most pulls of so many seconds: clients, repositories, tags."""
        begin = int(self._clock() - since)
        await self._index.flush()
        return {
            what: await self._index.spenders(what, *key, begin, most)
            for what in ("client", "repository", "tag")
        }
