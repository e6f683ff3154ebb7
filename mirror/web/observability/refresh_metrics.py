"""The metrics of the tags in use: their number, their HEADs, and the spared waits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from mirror.content.manifests.refresh_ahead import RefreshAhead
from mirror.content.outcome import Ahead


def collect(refresh_ahead: RefreshAhead, upstreams: Iterable[str]) -> Iterator[Metric]:
    """Read the figures of each upstream."""
    in_use = refresh_ahead.in_use
    followed = GaugeMetricFamily(
        "mirror_tags_in_use",
        "Tags that clients request again and again, and that are revalidated before they end.",
        labels=["upstream"],
    )
    asked = CounterMetricFamily(
        "mirror_tags_refreshed_ahead",
        "HEADs about tags in use before their end, by result.",
        labels=["upstream", "result"],
    )
    spared = CounterMetricFamily(
        "mirror_tag_waits_spared",
        "Times that clients would have waited for a HEAD about a tag in use.",
        labels=["upstream"],
    )
    for name in upstreams:
        followed.add_metric([name], in_use.followed(name))
        spared.add_metric([name], in_use.spared[name])
        for result in Ahead:
            asked.add_metric([name, result], refresh_ahead.results[name, result])
    yield from (followed, asked, spared)
