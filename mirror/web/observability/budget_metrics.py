"""The metrics of pull budgets: pulls left, the rate of spending, and the pulls saved."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from mirror.budget.account import Account
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand
from mirror.content.outcome import StaleReason

_ACCOUNT = ["upstream", "account"]
_GAUGES: tuple[tuple[str, str, Callable[[Account, float], float | None]], ...] = (
    (
        "mirror_pull_limit",
        "Pulls that upstream allows per window.",
        lambda account, _: account.window.limit,
    ),
    (
        "mirror_pull_remaining",
        "Pulls left, by upstream's last figure and the mirror's ledger since.",
        lambda account, now: account.window.left(now),
    ),
    (
        "mirror_pull_used",
        "Pulls of the last window, by the mirror's ledger.",
        lambda account, now: account.window.used(now),
    ),
    (
        "mirror_pull_others",
        "Pulls of the last window that upstream counted for others on the account or address.",
        lambda account, now: (
            None if account.window.reported is None else account.window.others(now)
        ),
    ),
    (
        "mirror_pull_window_seconds",
        "Length of the pull limit's window.",
        lambda account, _: account.window.length,
    ),
    (
        "mirror_pull_spend_rate",
        "Pulls per second in the last hour, or in the last sixth of a shorter window.",
        lambda account, now: account.window.rate(now),
    ),
    (
        "mirror_pull_exhaustion_seconds",
        "Seconds until no pull is left at this rate; +Inf if that never happens.",
        lambda account, now: (
            None if account.window.limit is None else account.window.exhausted_in(now)
        ),
    ),
    (
        "mirror_pull_whole_seconds",
        "Seconds until all pulls are left again, if none is spent.",
        lambda account, now: (
            None if account.window.limit is None else account.window.all_back_in(now)
        ),
    ),
    (
        "mirror_pull_gate_shut",
        "Whether upstream is not asked for manifests, because no pull is left.",
        lambda account, now: bool(account.shut_for(now)),
    ),
)


def collect(budget: Budget, demand: Demand, secret: bytes) -> Iterator[Metric]:
    """Return the metrics of all budgets; `secret` keys the names of accounts."""
    now = budget.now()
    accounts = [(key, _labels(*key, secret), account) for key, account in budget.accounts()]
    for name, text, read in _GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=_ACCOUNT)
        for _, labels, account in accounts:
            value = read(account, now)
            if value is not None:
                gauge.add_metric(labels, value)
        yield gauge
    shut = CounterMetricFamily(
        "mirror_pull_gate_shuts", "Times that the gate was shut.", labels=_ACCOUNT
    )
    for key, labels, _ in accounts:
        shut.add_metric(labels, budget.shut_times[key])
    yield shut
    yield from _saved(budget, demand)


def _labels(upstream: str, account: str, secret: bytes) -> tuple[str, str]:
    """Return the labels of an account: a stable hash, which reveals neither its login nor its path.

    A guess cannot be confirmed: without the secret its hash cannot be computed.
    """
    if not account:
        return upstream, ""
    named = f"account {upstream} {account}".encode()
    return upstream, hmac.digest(secret, named, "sha256").hex()[:8]


def _saved(budget: Budget, demand: Demand) -> Iterator[Metric]:
    asked = CounterMetricFamily(
        "mirror_pulls_asked", "Manifests that clients pulled.", labels=["upstream"]
    )
    counted = CounterMetricFamily(
        "mirror_pulls_counted", "Pulls that upstream counted.", labels=["upstream"]
    )
    saved = GaugeMetricFamily(
        "mirror_pulls_saved",
        "Manifests that clients pulled, less the pulls that upstream counted, since the start.",
        labels=["upstream"],
    )
    stale = CounterMetricFamily(
        "mirror_stale_serves", "Manifests served stale, by reason.", labels=["upstream", "reason"]
    )
    for upstream in sorted({key.upstream for key, _ in budget.accounts()}):
        asked.add_metric([upstream], demand.asked[upstream])
        counted.add_metric([upstream], budget.counted[upstream])
        saved.add_metric([upstream], demand.asked[upstream] - budget.counted[upstream])
        for why in StaleReason:
            stale.add_metric([upstream, why], demand.stale[upstream, why])
    yield from (asked, counted, saved, stale)
