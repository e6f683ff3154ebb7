"""The metrics of the console: the open streams, and the actions of operators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mirror.console.events import EventStreams
from mirror.console.orders import ACTIONS, Orders


@dataclass(frozen=True, slots=True)
class ConsoleFigures(Collector):
    """The figures, read at each scrape."""

    streams: EventStreams
    orders: Orders

    def collect(self) -> Iterator[Metric]:
        """Read the figures."""
        text = "Open streams of events: pages that are being looked at."
        yield GaugeMetricFamily("mirror_event_streams", text, len(self.streams))
        text = "Actions of operators on the page and by the API, dry ones aside."
        actions = CounterMetricFamily("mirror_operator_actions", text, labels=["action"])
        for action in ACTIONS:
            actions.add_metric([action], self.orders.actions[action])
        yield actions
