"""The pull ledger in the index: each counted pull, upstream's limits, and clients' requests."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from mirror.budget.pull_request import PullRequest
from mirror.budget.window import HOUR, MOST_PULLS, ReportedLimit
from mirror.identity.client import MIRROR_ITSELF
from mirror.storage.metadata.protocol import LedgerMetadata, Source, Spender
from mirror.storage.metadata.rows import (
    AccountKey,
    AskedRow,
    GateRow,
    LimitRow,
    PastPull,
    PullRow,
    SpenderRow,
)
from mirror.upstream.telemetry import PullLimit, UpstreamResponse

_log = logging.getLogger(__name__)

_MORE = 4096  # entries, after which there may be too many
_SPENDERS: tuple[Spender, ...] = ("client", "repository", "tag")
_STEP = 2.0  # seconds; a wall clock that moves so far against the timer was set


@dataclass(frozen=True, slots=True)
class Past:
    """The entries of one account. Ages and waits are in seconds.

    Pulls are in the order in which they were counted; `before` of them precede upstream's word.
    """

    pulls: list[tuple[float, str]]  # age, client
    before: int = 0
    limit: PullLimit | None = None
    limit_age: float = 0.0
    shut_for: float = 0.0


class Ledger:
    """Reads and writes the entries. They stay for `ledger_keep` seconds; `clock` is the wall clock.

    Only ages leave the ledger, in the order of the entries: the clock may have been set unnoticed.
    An entry of the future is as old as the next entry, or new if it is the last; no entry is older
    than an earlier one. So no pull is spent twice.
    """

    def __init__(
        self, index: LedgerMetadata, ledger_keep: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._index = index
        self.ledger_keep = ledger_keep
        self._clock = clock
        self._session = secrets.randbits(62)  # no other process has it
        self._entered = 0  # pulls in this session
        self._pruned = 0  # pulls at the last `prune`
        self._ahead: float | None = None  # of the timer, at the last look

    def __repr__(self) -> str:
        return f"<Ledger in {self._index!r}>"

    def when_lost(self, tell: Source) -> None:
        """Have `tell` enter everything again should the index be lost while it is in use."""
        self._index.when_lost(tell)

    async def load(self, longest: float, timer: float) -> dict[AccountKey, Past]:
        """Read the entries that may still matter; upstream's word needs two `longest` windows.

        This precedes all new entries. `timer` is the reading of the monotonic clock.
        """
        self._ahead = self._clock() - timer
        limits = {row.account: row for row in await self._index.limits()}
        longest = max([longest, *(row.window for row in limits.values())])
        pulls: dict[AccountKey, list[PastPull]] = {key: [] for key in limits}
        for pull in await self._index.pulls(self._now - int(2 * longest)):
            pulls.setdefault(pull.account, []).append(pull)
        past = {key: self._past(entries, limits.get(key)) for key, entries in pulls.items()}
        for gate in await self._index.gates():
            rest = min(gate.until - self._now, gate.seconds)
            before = past.get(gate.account, Past([]))
            past[gate.account] = replace(before, shut_for=max(0, rest))
        return past

    def _past(self, entries: list[PastPull], limit: LimitRow | None) -> Past:
        times, clients = [each.at for each in entries], [each.client for each in entries]
        if limit is None:
            return Past(list(zip(self._ages(times), clients, strict=True)))
        before = sum(each.reported for each in entries)
        ages = self._ages([*times[:before], limit.at, *times[before:]])
        limit_age = ages.pop(before)
        reported_limit = PullLimit(limit.allowed, limit.remaining, limit.window, limit.source)
        return Past(list(zip(ages, clients, strict=True)), before, reported_limit, limit_age)

    def _ages(self, times: list[int]) -> list[float]:
        """Return the ages of entries in this order, by a clock that may have been set."""
        now = self._now
        ages = list(accumulate((now - at if at <= now else math.inf for at in times), min))
        for place in reversed(range(len(times))):
            if times[place] > now:
                ages[place] = ages[place + 1] if place + 1 < len(times) else 0.0
        return ages

    @property
    def _now(self) -> int:
        return int(self._clock())

    def see_clock(self, timer: float) -> bool:
        """Move the entries since the start if the clock was set; tells whether it was.

        `timer` is the reading of the monotonic clock.
        """
        ahead = self._clock() - timer
        step = 0.0 if self._ahead is None else ahead - self._ahead
        self._ahead = ahead
        if abs(step) < _STEP:
            return False
        _log.warning("the clock was set by %d s: the pulls since the start move with it", step)
        self._index.move_pulls(self._session, round(step))
        return True

    @property
    def grown(self) -> bool:
        """Whether enough pulls were entered that it is time to `prune`."""
        return self._entered - self._pruned >= _MORE

    async def prune(self, longest: float, keys: Iterable[AccountKey]) -> None:
        """Drop pulls older than `ledger_keep` seconds and than two windows of the `longest` kind.

        Limits and gates stay for two such windows. Of each account only the last pulls stay: a
        client that requests one manifest after the other would fill the disk.
        """
        self._pruned = self._entered
        words = int(2 * longest)
        keep = max(int(self.ledger_keep), words)
        await self._index.prune(self._now, keep=keep, words=words)
        await self._index.keep_last(keys, MOST_PULLS)

    def add_pull(
        self, key: AccountKey, answer: UpstreamResponse, request: PullRequest | None = None
    ) -> None:
        """Enter a counted pull, and the client's request for it; None if the mirror wanted it."""
        row = PullRow(
            self._session,
            self._next(),
            key,
            self._now,
            answer.repository,
            request.reference if request else answer.asked,
            answer.asked if ":" in answer.asked else "",
            request.client if request else MIRROR_ITSELF,
        )
        self._index.add_pull(row)
        mark = "@" if row.reference == row.digest else ":"
        pulled = f"{key.upstream}/{row.repository}{mark}{row.reference}"
        _log.info("pull of %s counted for %s", pulled, row.client)

    def tell_pull(self, key: AccountKey, age: float) -> None:
        """Enter a pull again, in an index that was lost: repository and client are lost, too."""
        at = int(self._clock() - age)
        self._index.add_pull(PullRow(self._session, self._next(), key, at, "", "", "", ""))

    def _next(self) -> int:
        self._entered += 1
        return self._entered

    def put_limit(
        self, key: AccountKey, reported_limit: ReportedLimit, window: float, age: float
    ) -> None:
        """Note upstream's word on its limit, all entries so far included; in seconds."""
        at = int(self._clock() - age)
        row = LimitRow(
            key,
            reported_limit.limit,
            reported_limit.remaining,
            int(window),
            reported_limit.source,
            at,
        )
        self._index.put_limit(row)

    def drop_limit(self, key: AccountKey) -> None:
        """Note that upstream names no limit any more."""
        self._index.drop_limit(key)

    def put_gate(self, key: AccountKey, seconds: float) -> None:
        """Note for how long the gate is shut."""
        self._index.put_gate(GateRow(key, int(self._clock() + seconds), math.ceil(seconds)))

    def put_asked(self, upstream: str, hour: int, pulls: int) -> None:
        """Note how many manifests clients pulled in an hour, counted since the epoch."""
        self._index.put_asked(AskedRow(upstream, hour * HOUR, pulls))

    @property
    def hour(self) -> int:
        """The current hour, counted since the epoch."""
        return self._now // HOUR

    async def asked(self, since: float) -> dict[tuple[str, int], int]:
        """Return how many manifests clients pulled in `since` seconds, by upstream and hour."""
        rows = await self._index.asked(int(self._clock() - since) // HOUR * HOUR)
        return {(row.upstream, row.hour // HOUR): row.pulls for row in rows}

    async def spenders(
        self, key: AccountKey, since: float, most: int
    ) -> dict[Spender, Sequence[SpenderRow]]:
        """Return the largest spenders of the last `since` seconds: clients, repositories, tags."""
        begin = int(self._clock() - since)
        await self._index.flush()
        return {
            what: await self._index.spenders(what, key, since=begin, most=most)
            for what in _SPENDERS
        }
