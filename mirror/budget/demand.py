"""Demand: manifests that clients requested, and stale answers, beside upstream's counts."""

from __future__ import annotations

from collections import Counter

from mirror.budget.ledger import Ledger
from mirror.budget.window import HOUR

_LONGEST = 31 * 24  # hours in memory: a longer window is not reported in full


class Demand:
    """Counts demand in memory; about once a second the hours' sums are written to the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.asked: Counter[str] = Counter()  # manifests that clients requested, by upstream
        self.stale: Counter[tuple[str, str]] = Counter()  # by upstream and reason
        self._keep = 0  # hours
        self._entered: Counter[str] = Counter()
        self._hours: Counter[tuple[str, int]] = Counter()

    def __repr__(self) -> str:
        return f"<Demand: {self.asked.total()} manifests asked for>"

    async def load(self, longest: float) -> None:
        """Read the past from the ledger, for the `longest` window, in seconds."""
        self._keep = min(_LONGEST, int(longest // HOUR) + 1)
        self._hours.update(await self._ledger.asked(self._keep * HOUR))

    def tick(self) -> None:
        """Add the requests since the last tick to the current hour."""
        hour = self._ledger.hour
        for upstream, asked in self.asked.items():
            if new := asked - self._entered[upstream]:
                self._entered[upstream] = asked
                self._hours[upstream, hour] += new
                self._ledger.put_asked(upstream, hour, self._hours[upstream, hour])
        for old in [(name, at) for name, at in self._hours if at < hour - self._keep]:
            del self._hours[old]

    def asked_for(self, upstream: str, seconds: float) -> int:
        """Return how many manifests were requested in the hours that the last `seconds` touch."""
        first = self._ledger.hour - int(seconds // HOUR)
        hours = ((hour, n) for (name, hour), n in self._hours.items() if name == upstream)
        return sum(n for hour, n in hours if hour >= first)
