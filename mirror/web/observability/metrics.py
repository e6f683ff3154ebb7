"""The metrics for Prometheus: counters of requests, and the current state of all parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import mirror
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.content.listings.service import ListingService
from mirror.content.manifests.refresh_ahead import RefreshAhead
from mirror.content.warm_figures import WarmFigures
from mirror.oci.errors import ClientTooFast
from mirror.statistics.recorder import Recorder
from mirror.storage.store import Store
from mirror.upstream.client import RegistryClient
from mirror.upstream.telemetry import UpstreamResponse
from mirror.util.log_writer import LogWriter
from mirror.util.loop_lag import BOUNDS, LoopLag
from mirror.web.auth.authenticator import Authenticator
from mirror.web.auth.request_rate import RequestRates
from mirror.web.connections.certificate import Certificate
from mirror.web.connections.client_connections import ClientConnections
from mirror.web.observability import budget_metrics, refresh_metrics
from mirror.web.observability.request_metrics import SECONDS, RequestMetrics, buckets

_RENDERINGS = 2.0  # per second: each takes some milliseconds of the event loop
# The statuses of HTTP, and those of Cloudflare for a registry that gives no answer.
_STATUSES = frozenset({*map(int, HTTPStatus), *range(520, 528)})
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts requests and upstream's answers. No label ever names a repository or a client."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._renderings = RequestRates(_RENDERINGS)
        self._rendered = b""
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.requests = RequestMetrics()
        self.registry.register(self.requests)
        self._upstream = Counter(
            "mirror_upstream_requests",
            "Requests to upstream, by kind and HTTP status (none: no answer came).",
            ["upstream", "kind", "method", "status"],
            registry=self.registry,
        )
        self._upstream_seconds = Histogram(
            "mirror_upstream_request_seconds",
            "Time from asking upstream to the headers of its answer.",
            ["upstream", "kind"],
            buckets=SECONDS,
            registry=self.registry,
        )

    def answer(self, answer: UpstreamResponse) -> None:
        """Count an answer of upstream, or a missing one."""
        status = _status(answer.status)
        self._upstream.labels(answer.upstream, answer.kind, answer.method, status).inc()
        self._upstream_seconds.labels(answer.upstream, answer.kind).observe(answer.seconds)

    def render(self) -> bytes:
        """Return the text that Prometheus reads; too frequent requests get the previous one."""
        try:
            self._renderings.take("")
        except ClientTooFast:
            return self._rendered
        self._rendered = generate_latest(self.registry)
        return self._rendered


@dataclass(frozen=True, slots=True)
class State(Collector):
    """The figures of all parts, read at each scrape. `secret` keys the names of accounts."""

    store: Store
    fetches: FetchPool
    budget: Budget
    demand: Demand
    registries: Iterable[RegistryClient]
    connections: ClientConnections
    authenticator: Authenticator
    log_writer: LogWriter
    listings: ListingService
    refresh_ahead: RefreshAhead
    warm: WarmFigures
    lag: LoopLag
    recorder: Recorder
    certificate: Certificate | None
    secret: bytes = field(repr=False)

    def collect(self) -> Iterator[Metric]:
        """Read the figures."""
        yield from self._cache()
        yield from budget_metrics.collect(self.budget, self.demand, self.secret)
        received = CounterMetricFamily(
            "mirror_upstream_received_bytes", "Bytes of bodies received.", labels=["upstream"]
        )
        down = GaugeMetricFamily(
            "mirror_upstream_down",
            "Whether upstream failed so often lately that it is probed instead of asked.",
            labels=["upstream"],
        )
        left_out = CounterMetricFamily(
            "mirror_tags_left_out",
            "Entries of upstream's lists of tags that are not valid tags, and are not listed.",
            labels=["upstream"],
        )
        for registry in self.registries:
            name = registry.origin.name
            left_out.add_metric([name], self.listings.left_out[name])
            received.add_metric([registry.origin.name], registry.received)
            down.add_metric([registry.origin.name], registry.down)
        yield from (received, down, left_out)
        names = [registry.origin.name for registry in self.registries]
        yield from refresh_metrics.collect(self.refresh_ahead, names)
        yield from self._itself()
        yield _gauge("mirror_connections", "Clients' connections.", len(self.connections))
        yield _counter(
            "mirror_connections_shed",
            "Connections closed because there were too many.",
            self.connections.shed,
        )
        refused = self.authenticator.refused
        yield _counter("mirror_logins_refused", "Wrong logins of clients.", refused)
        yield _counter(
            "mirror_log_lines_dropped", "Lines of the log not written.", self.log_writer.dropped
        )
        yield from self._warm()
        yield from self._lag()

    def _itself(self) -> Iterator[Metric]:
        """Return the version, the end of the certificate, and the waiting that was spared."""
        build = GaugeMetricFamily("mirror_build_info", "1, with the version.", labels=["version"])
        build.add_metric([mirror.__version__], 1)
        yield build
        spared = CounterMetricFamily(
            "mirror_spared_seconds",
            "Estimated seconds that clients did not wait for upstream.",
            labels=["upstream"],
        )
        for upstream, seconds in self.recorder.spared():
            spared.add_metric([upstream], seconds)
        yield spared
        ends = GaugeMetricFamily(
            "mirror_certificate_end_timestamp_seconds",
            "When the mirror's certificate ends, in seconds since the epoch.",
        )
        if self.certificate is not None and self.certificate.end is not None:
            ends.add_metric([], self.certificate.end)
        yield ends

    def _warm(self) -> Iterator[Metric]:
        warm = self.warm
        images = CounterMetricFamily(
            "mirror_warm_images", "Images that runs of warm stored or not.", labels=["result"]
        )
        images.add_metric(["stored"], warm.warmed)
        images.add_metric(["failed"], warm.failed)
        yield images
        yield _counter("mirror_warm_pulls", "Pulls that warming spent.", warm.pulls)
        yield _counter("mirror_warm_bytes", "Bytes that warming fetched.", warm.bytes)
        yield _gauge("mirror_warm_running", "Runs of warm under way.", warm.running)
        text = "When the last run of warm ended; 0 before the first."
        yield _gauge("mirror_warm_last_end_timestamp_seconds", text, warm.last_ended)
        text = "Images that failed in the last run of warm."
        yield _gauge("mirror_warm_last_failed_images", text, warm.last_failed)

    def _lag(self) -> Iterator[Metric]:
        text = "How late the event loop ran due timers, without its wait for a CPU."
        beats = buckets(BOUNDS, self.lag.counts)
        yield HistogramMetricFamily("mirror_loop_lag_seconds", text, beats, self.lag.total)
        text = "The longest of these lags since the start."
        yield _gauge("mirror_loop_lag_most_seconds", text, self.lag.most)

    def _cache(self) -> Iterator[Metric]:
        store, fetches = self.store, self.fetches
        yield _gauge("mirror_fetches", "Fetches running.", len(fetches))
        yield _gauge("mirror_followers", "Clients following a fetch.", fetches.followers)
        yield _gauge("mirror_cache_bytes", "Bytes stored or reserved.", store.used)
        yield _gauge("mirror_cache_limit_bytes", "Bytes that may be stored.", store.max_size)
        yield _gauge("mirror_cache_blobs", "Blobs and manifests stored.", len(store.catalog))
        yield _gauge("mirror_pinned_images", "Images kept from eviction.", len(store.pins.images))
        pinned = store.catalog.pinned_bytes
        yield _gauge("mirror_pinned_bytes", "Bytes kept from eviction.", pinned)
        yield _counter("mirror_evictions", "Blobs and manifests evicted.", store.evicted)
        yield _counter("mirror_evicted_bytes", "Bytes evicted.", store.evicted_bytes)
        yield _counter(
            "mirror_store_failures",
            "Times that content could not be stored, or was damaged.",
            store.failures,
        )


def _status(status: int | None) -> str:
    """Return the label of a status; unknown ones by class, as each label is a series for ever."""
    if status is None:
        return "none"
    return str(status) if status in _STATUSES else f"{status // 100}xx"


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)
