"""`top`: reports the images and clients with the most pulls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from mirror.admin.messages import Record, Top, TopOrder, TopRow
from mirror.admin.operations.parts import OperationParts
from mirror.statistics.history import HOUR
from mirror.statistics.top import Count, summed

_SPANS = {"hour": HOUR, "day": 24 * HOUR, "week": 7 * 24 * HOUR}  # seconds


async def top(parts: OperationParts, order: TopOrder) -> AsyncGenerator[Record, None]:
    """Yield the lists of the hours that the span touches, summed on a thread."""
    await parts.recorder.load()
    parts.recorder.refresh()
    now, lists = int(parts.recorder.now), parts.recorder.top
    since = (now - _SPANS[order.span]) // HOUR * HOUR
    counts = lists.counts("image", since, now), lists.counts("client", since, now)
    images, clients = await asyncio.to_thread(_largest, *counts)
    yield Top(order.span, images, clients, since)


def _largest(*lists: list[Count]) -> list[tuple[TopRow, ...]]:
    return [tuple(map(_row, summed(counts))) for counts in lists]


def _row(count: Count) -> TopRow:
    return TopRow(count.name, count.pulls, count.sent)
