"""The screen of `mirror status`: the state of the mirror as lines that fit a terminal. Pure."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Iterator

from mirror.admin.messages import (
    DiskStatus,
    LimitStatus,
    RunningFetch,
    ScheduleStatus,
    SpanFigures,
    Status,
    UpstreamStatus,
)
from mirror.util.units import counted, duration, human

WIDTH, HEIGHT = 80, 24  # of the smallest terminal that the screen is made for
_MARKS = {"error": "!", "warning": "~"}
_BAR = 20  # characters
_URGENT = {"down": 0, "failing": 1}  # the states of upstreams that come before others
# Ways to make the screen lower: whether advice is printed, and the rows of each table.
_WAYS = ((True, 99), (True, 3), (False, 3), (False, 2), (False, 1))


def screen(
    status: Status, fetches: tuple[RunningFetch, ...], width: int = WIDTH, height: int = HEIGHT
) -> list[str]:
    """Return the lines; a low screen has fewer rows, with their number, and no advice."""
    lines: list[str] = []
    for advice, rows in _WAYS:
        lines = [_cut(line, width) for line in _lines(status, fetches, width, rows, advice=advice)]
        if len(lines) <= height:
            return lines
    return [line for line in lines if line][:height]


def _lines(
    status: Status, fetches: tuple[RunningFetch, ...], width: int, rows: int, *, advice: bool
) -> Iterator[str]:
    yield _head(status)
    yield from _concerns(status, width, rows, advice=advice)
    yield ""
    if status.upstreams:
        yield from _upstreams(status.upstreams, rows)
        yield ""
    if status.limits:
        yield from _limits(status.limits, status.at, rows)
        yield ""
    if status.schedules:
        yield from _schedules(status.schedules, status.at, rows)
        yield ""
    yield from _spans(status.spans)
    yield ""
    yield _disk(status.disk)
    if status.running:
        yield _activity(status)
        yield from map(_fetch, fetches[:rows])


def _head(status: Status) -> str:
    name = f"mirror {status.version} on {status.host}"
    clock = time.strftime("%H:%M:%S", time.localtime(status.at))
    return (
        f"{name}, up {duration(status.uptime)}, {clock}" if status.running else f"{name}, {clock}"
    )


def _concerns(status: Status, width: int, rows: int, *, advice: bool) -> Iterator[str]:
    if not status.concerns:
        yield "All is well."
    for concern in status.concerns[:rows]:
        text = f"{concern.what} {concern.advice}" if advice else concern.what
        mark = _MARKS[concern.severity]
        yield from textwrap.wrap(text, width, initial_indent=f"{mark} ", subsequent_indent="  ")
    yield from _more(len(status.concerns), rows)


def _more(count: int, rows: int) -> Iterator[str]:
    if count > rows:
        yield f"  and {count - rows} more"


def _upstreams(upstreams: tuple[UpstreamStatus, ...], rows: int) -> Iterator[str]:
    counts = f"{'ASKED':>9}{'FAILED':>8}{'RECEIVED':>13}"
    yield f"{'UPSTREAM, LAST HOUR':<26}{'STATE':<14}{'MEDIAN':>8}{counts}"
    urgent = sorted(upstreams, key=lambda each: (_URGENT.get(each.state, 2), -each.requests))
    for each in urgent[:rows]:
        down = "" if each.down_for is None else f" {duration(each.down_for)}"
        state = f"{each.state}{down}"
        median = "-" if each.median is None else _short(each.median)
        counts = f"{each.requests:>9,}{each.failures:>8,}{human(each.received):>13}"
        yield f"{_cut(each.name, 25):<26}{state:<14}{median:>8}{counts}"
    yield from _more(len(upstreams), rows)


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _limits(limits: tuple[LimitStatus, ...], now: float, rows: int) -> Iterator[str]:
    yield f"{'PULL LIMIT':<32}{'LEFT':>12}{'AN HOUR':>9}  {'LASTS':<12}{'WHOLE AT':>11}"
    for each in limits[:rows]:
        name = _cut(f"{each.upstream}, {each.account or 'anonymous'}", 31)
        left = "no limit" if each.limit is None else f"{each.remaining} of {each.limit}"
        whole = _clock(now + each.whole, now) if each.whole else ""
        yield f"{name:<32}{left:>12}{each.rate:>9g}  {_lasts(each):<12}{whole:>11}".rstrip()
    yield from _more(len(limits), rows)


def _lasts(limit: LimitStatus) -> str:
    if limit.shut:
        return f"shut {duration(limit.shut)}"
    if limit.limit is None:
        return ""
    return "always" if limit.lasts is None else duration(limit.lasts)


def _schedules(schedules: tuple[ScheduleStatus, ...], now: float, rows: int) -> Iterator[str]:
    yield f"{'SCHEDULE':<37}{'NEXT':>12}{'LAST':>12}  {'RESULT'}"
    urgent = sorted(schedules, key=lambda each: (not each.failed, each.next or math.inf))
    for each in urgent[:rows]:
        soon = _clock(each.next, now) if each.next else "never"
        last = _clock(each.began, now) if each.began else "-"
        yield f"{_cut(each.name, 36):<37}{soon:>12}{last:>12}  {_result(each)}".rstrip()
    yield from _more(len(schedules), rows)


def _result(schedule: ScheduleStatus) -> str:
    if schedule.failure is not None:
        return "failed"
    if schedule.began is None:
        return ""
    return "runs" if schedule.ended is None else f"{schedule.stored} of {schedule.images}"


def _clock(at: float, now: float) -> str:
    then = time.localtime(at)
    today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if today else "%m-%d %H:%M", then)


def _spans(spans: tuple[SpanFigures, ...]) -> Iterator[str]:
    """Yield a table of the spans: requests, and the savings of the cache."""
    yield f"{'LAST':<24}" + "".join(f"{span.name.upper():>18}" for span in spans)
    for name, cell in _ROWS:
        yield f"{name:<24}" + "".join(f"{cell(span):>18}" for span in spans)


def _requests(span: SpanFigures) -> str:
    return f"{span.requests:,}"


def _hits(span: SpanFigures) -> str:
    return _share(span.hits, span.requests)


def _cached(span: SpanFigures) -> str:
    return _share(span.sent_from_cache, span.sent)


def _spared_bytes(span: SpanFigures) -> str:
    return human(span.not_downloaded)


def _saved(span: SpanFigures) -> str:
    return f"{span.not_counted:,} of {span.asked:,}"


def _waiting(span: SpanFigures) -> str:
    return duration(span.spared)


def _wrong(span: SpanFigures) -> str:
    return f"{span.errors:,}, {span.stale:,}"


_ROWS = (
    ("requests", _requests),
    ("from the cache", _hits),
    ("bytes from the cache", _cached),
    ("bytes not downloaded", _spared_bytes),
    ("pulls not counted", _saved),
    ("waiting spared", _waiting),
    ("errors, stale answers", _wrong),
)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _disk(disk: DiskStatus) -> str:
    share = disk.used / disk.limit if disk.limit else 0
    text = f"disk: {human(disk.used)} of {human(disk.limit)} ({share:.0%})"
    text += f", {disk.manifests:,} manifests, {disk.blobs:,} blobs"
    if disk.lasts is not None:
        text += f", unused for {duration(disk.lasts * 86_400)}"
    return text


def _activity(status: Status) -> str:
    fetches = counted(status.fetches, "fetch", "fetches")
    followers = counted(status.followers, "follower")
    return f"now: {fetches}, {followers}, {counted(status.connections, 'connection')}"


def _fetch(fetch: RunningFetch) -> str:
    name, rate = _cut(fetch.repository, 24), f"{human(fetch.rate)}/s"
    if not fetch.size:
        return f"  {name:<24} {'':<{_BAR + 7}} {human(fetch.received)}, {rate}"
    share = min(1.0, fetch.received / fetch.size)
    bar = "#" * round(share * _BAR)
    return f"  {name:<24} [{bar:.<{_BAR}}] {share:>4.0%} of {human(fetch.size)}, {rate}"


def _cut(text: str, width: int) -> str:
    """Shorten a line, without characters that a terminal would obey."""
    plain = "".join(each if each.isprintable() else "?" for each in text)
    return plain if len(plain) <= width else plain[: width - 1] + "…"
