"""`status`: reports the state of the mirror, from counters in memory alone."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncGenerator, Iterator
from dataclasses import fields, replace
from typing import Literal

import mirror
from mirror.admin.messages import (
    DiskStatus,
    HourEvents,
    LimitStatus,
    Record,
    ScheduleStatus,
    SpanFigures,
    Status,
    StatusOrder,
    UpstreamStatus,
)
from mirror.admin.operations.concerns import concerns
from mirror.admin.operations.parts import LiveParts, OperationParts
from mirror.budget.account import Account
from mirror.budget.report import whole_seconds
from mirror.statistics.history import HOUR, MINUTE, TEN_MINUTES
from mirror.statistics.recorder import Recorder
from mirror.statistics.series import added
from mirror.storage.metadata.rows import AccountKey, Figures

Name = Literal["hour", "day", "week"]

_EVENTS = tuple(each.name for each in fields(HourEvents))
_DAY = 24 * HOUR
_SPANS: tuple[tuple[Name, int, int], ...] = (  # with the steps that they are summed from
    ("hour", HOUR, MINUTE),
    ("day", _DAY, MINUTE),
    ("week", 7 * _DAY, TEN_MINUTES),
)


async def status(parts: OperationParts, _: StatusOrder) -> AsyncGenerator[Record, None]:
    """Yield the report."""
    recorder, live = parts.recorder, parts.live
    await recorder.load()
    recorder.refresh()
    trouble = await parts.store.trouble()
    report = Status(
        version=mirror.__version__,
        host=socket.gethostname(),
        at=recorder.now,
        started=recorder.started if live else 0.0,
        uptime=int(recorder.uptime) if live else 0,
        concerns=(),
        upstreams=tuple(_upstreams(recorder, live)) if live else (),
        limits=tuple(_limits(parts)),
        spans=tuple(_spans(recorder)),
        disk=_disk(parts, trouble),
        fetches=len(live.fetches) if live else 0,
        followers=live.fetches.followers if live else 0,
        connections=live.connections() if live else 0,
        events=HourEvents(**{name: recorder.increase(name) for name in _EVENTS}),
        certificate_end=live.certificate_end() if live else None,
        absent_pins=live.absent_pins.names if live else (),
        schedules=tuple(_schedules(live)) if live else (),
        running=live is not None,
    )
    yield replace(report, concerns=tuple(concerns(report)))


def sums(recorder: Recorder, upstream: str | None, seconds: int, step: int) -> Figures:
    """Return the sums of the last `seconds`, from steps of `step` seconds, until now."""
    minute, current = recorder.current(upstream)
    recorded = recorder.history.total(upstream, step, minute + MINUTE - seconds, minute + MINUTE)
    return added(recorded, current)


def reported(figures: Figures) -> dict[str, int]:
    """Return the sums that `status` and `history` report, with `spared` in whole seconds."""
    sums = figures._asdict()
    del sums["evicted"], sums["ran"]
    return sums | {"spared": figures.spared // 1000}


def _spans(recorder: Recorder) -> Iterator[SpanFigures]:
    for name, seconds, step in _SPANS:
        figures = sums(recorder, None, seconds, step)
        covered = min(figures.ran, seconds)
        yield SpanFigures(name=name, seconds=seconds, covered=covered, **reported(figures))


def _schedules(live: LiveParts) -> Iterator[ScheduleStatus]:
    for report in live.schedules.all:
        yield ScheduleStatus(**report._asdict())


def _upstreams(recorder: Recorder, live: LiveParts) -> Iterator[UpstreamStatus]:
    for name in sorted(live.registries):
        hour = sums(recorder, name, HOUR, MINUTE)
        down = recorder.down_for(name) if live.registries[name].down else None
        median = recorder.median(name, HOUR)
        yield UpstreamStatus(
            name=name,
            state=_state(hour, is_down=down is not None),
            down_for=None if down is None else int(down),
            median=None if median is None else round(median, 4),
            requests=hour.upstream_requests,
            failures=hour.upstream_failures,
            received=hour.received,
        )


def _state(hour: Figures, *, is_down: bool) -> Literal["up", "failing", "down", "idle"]:
    if is_down:
        return "down"
    if not hour.upstream_requests:
        return "idle"
    return "failing" if hour.upstream_failures >= hour.upstream_requests else "up"


def _limits(parts: OperationParts) -> Iterator[LimitStatus]:
    now = parts.budget.now()
    for key, account in parts.budget.accounts():
        if account.window.limit is not None or account.window.used(now):
            yield _limit(key, account, now)


def _limit(key: AccountKey, account: Account, now: float) -> LimitStatus:
    window = account.window
    limited = window.limit is not None
    return LimitStatus(
        upstream=key.upstream,
        account=key.name,
        limit=window.limit,
        remaining=window.left(now),
        used=window.used(now),
        others=window.others(now) if window.reported else None,
        rate=round(window.rate(now) * HOUR, 2),
        lasts=whole_seconds(window.exhausted_in(now)) if limited else None,
        whole=whole_seconds(window.all_back_in(now)) if limited else None,
        shut=math.ceil(account.shut_for(now)),
    )


def _disk(parts: OperationParts, trouble: str | None) -> DiskStatus:
    store, taken = parts.store, parts.store.taken()
    manifests = store.catalog.manifest_count
    return DiskStatus(
        used=taken.all,
        limit=store.max_size,
        quarantine=taken.quarantine,
        blobs=len(store.catalog) - manifests,
        manifests=manifests,
        lasts=_lasts(sums(parts.recorder, None, 7 * _DAY, TEN_MINUTES), taken.kept),
        trouble=trouble,
    )


def _lasts(week: Figures, kept: int) -> float | None:
    """Return the days in which as much is evicted as is stored, by the last week's evictions."""
    if week.ran < _DAY or not week.evicted:
        return None
    return round(kept / (week.evicted / week.ran) / _DAY, 2)
