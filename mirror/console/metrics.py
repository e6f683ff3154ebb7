"""The metrics of the console: the open streams, and the actions of operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

ACTIONS = ("warm", "refresh", "pin", "unpin", "purge", "gc", "verify", "export", "import")


@dataclass(frozen=True, slots=True)
class Activity:
    """The open streams of events, and the actions so far, by kind."""

    streams: int = 0
    actions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConsoleFigures(Collector):
    """The figures, read at each scrape."""

    activity: Callable[[], Activity]

    def collect(self) -> Iterator[Metric]:
        """Read the figures."""
        now = self.activity()
        text = "Open streams of events: pages that are being looked at."
        yield GaugeMetricFamily("mirror_event_streams", text, now.streams)
        text = "Actions of operators on the page and by the API, dry ones aside."
        actions = CounterMetricFamily("mirror_operator_actions", text, labels=["action"])
        for action in ACTIONS:
            actions.add_metric([action], now.actions.get(action, 0))
        yield actions
