"""The metrics of requests: their number, time, and bytes sent."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from mirror.content.outcome import Outcome

SECONDS = (0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300)


def buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return a histogram's buckets from plain counts: one for each bound, and one beyond."""
    names = (*map(floatToGoString, bounds), "+Inf")
    return list(zip(names, map(float, accumulate(counts)), strict=True))


class _Tally:
    """The numbers of one kind and outcome: requests by their time, all seconds, bytes sent."""

    __slots__ = ("fast", "seconds", "sent")

    def __init__(self) -> None:
        self.fast = [0] * (len(SECONDS) + 1)
        self.seconds = 0.0
        self.sent = 0


class RequestMetrics(Collector):
    """Counts answered requests in plain numbers, which the Prometheus library reads at each scrape.

    The library's own counters are made for threads: their locks took a twelfth of the time of a
    warm answer (measured). A request looks up one tally; all sums are made at a scrape.
    `instant` counts the instant answers among them.
    """

    def __init__(self) -> None:
        self.instant = 0
        self._tallies: dict[tuple[str, Outcome | None], _Tally] = {}  # by kind and outcome

    def __repr__(self) -> str:
        answered = sum(sum(tally.fast) for tally in self._tallies.values())
        return f"<RequestMetrics: {answered} answered>"

    def add(self, kind: str, outcome: Outcome | None, sent: int, seconds: float) -> None:
        """Count an answered request; `sent` in bytes."""
        tally = self._tallies.get((kind, outcome))
        if tally is None:
            tally = self._tallies[kind, outcome] = _Tally()
        tally.fast[bisect_left(SECONDS, seconds)] += 1
        tally.seconds += seconds
        tally.sent += sent

    def collect(self) -> Iterator[Metric]:
        """Return the metrics."""
        yield self._counted()
        text = "Requests answered from memory before they were parsed."
        yield CounterMetricFamily("mirror_instant_answers", text, value=self.instant)
        yield self._timed()
        yield self._sent()

    def _counted(self) -> Metric:
        text = "Requests answered, by kind and by how the cache took part."
        answered = CounterMetricFamily("mirror_requests", text, labels=["kind", "outcome"])
        for (kind, outcome), tally in self._tallies.items():
            answered.add_metric([kind, str(outcome or "own")], sum(tally.fast))
        return answered

    def _timed(self) -> Metric:
        text = "Time from a request's arrival to the last byte of its answer."
        timed = HistogramMetricFamily("mirror_request_seconds", text, labels=["kind"])
        for kind in dict.fromkeys(kind for kind, _ in self._tallies):
            tallies = [each for (of, _), each in self._tallies.items() if of == kind]
            counts = [sum(column) for column in zip(*(each.fast for each in tallies), strict=True)]
            seconds = sum(each.seconds for each in tallies)
            timed.add_metric([kind], buckets(SECONDS, counts), seconds)
        return timed

    def _sent(self) -> Metric:
        text = "Bytes of bodies sent to clients, from the cache or while upstream sent them."
        sent = CounterMetricFamily("mirror_sent_bytes", text, labels=["source"])
        sums = Counter[str]()
        for (_, outcome), tally in self._tallies.items():
            if tally.sent and outcome not in (None, Outcome.ERROR):
                sums["upstream" if outcome is Outcome.MISS else "cache"] += tally.sent
        for source, count in sums.items():
            sent.add_metric([source], count)
        return sent
