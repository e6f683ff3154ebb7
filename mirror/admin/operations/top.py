"""`top`: reports the images and clients with the most pulls."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mirror.admin.messages import Record, Top, TopOrder, TopRow
from mirror.admin.operations.parts import OperationParts
from mirror.statistics.history import HOUR
from mirror.statistics.top import Count

_SPANS = {"hour": HOUR, "day": 24 * HOUR, "week": 7 * 24 * HOUR}  # seconds


async def top(parts: OperationParts, order: TopOrder) -> AsyncGenerator[Record, None]:
    """Yield the lists of the hours that the span touches."""
    await parts.recorder.load()
    parts.recorder.refresh()
    now, lists = int(parts.recorder.now), parts.recorder.top
    since = (now - _SPANS[order.span]) // HOUR * HOUR
    yield Top(
        span=order.span,
        images=tuple(map(_row, lists.largest("image", since, now))),
        clients=tuple(map(_row, lists.largest("client", since, now))),
        since=since,
    )


def _row(count: Count) -> TopRow:
    return TopRow(count.name, count.pulls, count.sent)
