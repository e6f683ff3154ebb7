"""The metrics of requests: their number, time, and bytes sent."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
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


class RequestMetrics(Collector):
    """Counts answered requests in plain numbers, which the Prometheus library reads at each scrape.

    The library's own counters are made for threads: their locks took a twelfth of the time of a
    warm answer (measured).
    """

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, str]] = Counter()  # by kind and outcome
        self._fast: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(SECONDS) + 1))
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._sent: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<RequestMetrics: {self._answered.total()} answered>"

    def add(self, kind: str, outcome: Outcome | None, sent: int, seconds: float) -> None:
        """Count an answered request; `sent` in bytes."""
        self._answered[kind, outcome or "own"] += 1
        self._fast[kind][bisect_left(SECONDS, seconds)] += 1
        self._seconds[kind] += seconds
        if sent and outcome not in (None, Outcome.ERROR):
            self._sent["upstream" if outcome is Outcome.MISS else "cache"] += sent

    def collect(self) -> Iterator[Metric]:
        """Return the metrics."""
        yield self._counted()
        yield self._timed()
        text = "Bytes of bodies sent to clients, from the cache or while upstream sent them."
        sent = CounterMetricFamily("mirror_sent_bytes", text, labels=["source"])
        for source, count in self._sent.items():
            sent.add_metric([source], count)
        yield sent

    def _counted(self) -> Metric:
        text = "Requests answered, by kind and by how the cache took part."
        answered = CounterMetricFamily("mirror_requests", text, labels=["kind", "outcome"])
        for (kind, outcome), count in self._answered.items():
            answered.add_metric([kind, str(outcome)], count)
        return answered

    def _timed(self) -> Metric:
        text = "Time from a request's arrival to the last byte of its answer."
        timed = HistogramMetricFamily("mirror_request_seconds", text, labels=["kind"])
        for kind, counts in self._fast.items():
            timed.add_metric([kind], buckets(SECONDS, counts), self._seconds[kind])
        return timed
