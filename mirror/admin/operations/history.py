"""`history`: reports the recorded steps of a time span."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import NamedTuple

from mirror.admin.messages import History, HistoryOrder, Point, Record
from mirror.admin.messages.common import OrderInvalid
from mirror.admin.operations.parts import OperationParts
from mirror.admin.operations.status import reported
from mirror.statistics.history import HOUR, ITSELF, MINUTE, STEPS, TEN_MINUTES
from mirror.statistics.series import SeriesPart, added
from mirror.storage.metadata.rows import Figures

_DAY = 24 * HOUR


class _Span(NamedTuple):
    seconds: int
    step: int


_SPANS = {
    "hour": _Span(HOUR, MINUTE),
    "day": _Span(_DAY, TEN_MINUTES),
    "week": _Span(7 * _DAY, HOUR),
    "month": _Span(30 * _DAY, HOUR),
    "year": _Span(365 * _DAY, _DAY),
}


async def history(parts: OperationParts, order: HistoryOrder) -> AsyncGenerator[Record, None]:
    """Yield the steps, summed on a thread. Raises OrderInvalid for an unknown upstream or step."""
    await parts.recorder.load()
    parts.recorder.refresh()
    recorder, span = parts.recorder, _SPANS[order.span]
    step = order.step or span.step
    recorded = max(each for each in STEPS if step % each == 0)
    if span.seconds > STEPS[recorded] * recorded:
        raise OrderInvalid(f"steps of {step} s are not recorded for a {order.span}")
    if order.upstream == ITSELF:
        raise OrderInvalid("an upstream's name is not empty")
    minute, current = recorder.current(order.upstream)
    end = int(recorder.now) // step * step + step
    begin = end - span.seconds
    part = recorder.history.part(order.upstream, recorded, begin, end)
    points = await asyncio.to_thread(_points, part, step, minute, current)
    yield History(order.span, order.upstream, begin, end, step, points)


def _points(part: SeriesPart, step: int, minute: int, current: Figures) -> tuple[Point, ...]:
    steps = dict(part.by(step))
    if any(current):
        at = minute // step * step
        steps[at] = added(steps[at], current) if at in steps else current
    return tuple(_point(at, steps[at]) for at in sorted(steps))


def _point(at: int, figures: Figures) -> Point:
    return Point(at=at, ran=figures.ran, **reported(figures))
