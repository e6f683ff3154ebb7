"""The overview at `/`, and its events: the parts that have changed, once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mirror.admin.messages import (
    BudgetOrder,
    ErrorsOrder,
    Fetches,
    FetchesOrder,
    History,
    HistoryOrder,
    RecentRequests,
    Status,
    StatusOrder,
    Top,
    TopOrder,
)
from mirror.budget.summary import Budgets
from mirror.console.discretion import discreet
from mirror.console.events import EventStream, event
from mirror.console.origin import SAFE
from mirror.console.pages.head import head_of
from mirror.console.pages.overview import SPANS, Names, Overview, Span, parts_of
from mirror.console.parts import ConsoleParts, Drawn
from mirror.console.problem import Problem, wrong_method
from mirror.console.render.numbers import clock
from mirror.console.reply import ConsoleReply
from mirror.console.request import ConsoleRequest
from mirror.util.cooperative import cooperatively

_SECTION = "/"


async def home(parts: ConsoleParts, request: ConsoleRequest) -> ConsoleReply:
    """Answer with the overview of the last hour, day or week; raises Problem."""
    span, names = _span(request), request.viewer.sees_names
    drawn = await parts.drawn.get(lambda: draw(parts, span, names=names), (span, names))
    head = head_of(parts.mirror, request, _SECTION, events=f"/events?span={span}")
    page = parts.templates.render("overview.html", title=drawn.title, parts=drawn.parts, head=head)
    return ConsoleReply.html(page)


async def draw(parts: ConsoleParts, span: Span, *, names: bool) -> Drawn:
    """Return the overview as text, a part at a time: all of them take milliseconds."""
    overview = await look(parts, span, names=names)
    drawn = [part async for _, part in cooperatively(parts_of(overview, parts.templates), 1)]
    return Drawn(overview.title, tuple(drawn))


async def events(parts: ConsoleParts, request: ConsoleRequest) -> EventStream:
    """Answer with the events of the overview; raises Problem.

    Viewers of the same span and rights share one channel.
    """
    if request.method not in SAFE:
        raise wrong_method(request.method, *SAFE)
    span, names = _span(request), request.viewer.sees_names
    channel = parts.channels.of((span, names), lambda: changes(parts, span, names=names))
    return EventStream(channel, request.viewer.address, names)


async def look(parts: ConsoleParts, span: Span, *, names: bool) -> Overview:
    """Ask for the figures of the overview, those with names only for viewers that may see them."""
    ask = parts.orders.ask
    status, history, budgets = await asyncio.gather(
        ask(StatusOrder(), Status),
        ask(HistoryOrder(span), History),
        parts.budgets.get(lambda: ask(BudgetOrder(), Budgets)),
    )
    if not names:
        return Overview(span, discreet(status), history, discreet(budgets), None)
    return Overview(span, status, history, budgets, await _named(parts, span))


async def _named(parts: ConsoleParts, span: Span) -> Names:
    ask = parts.orders.ask
    fetches, errors, top = await asyncio.gather(
        ask(FetchesOrder(), Fetches),
        ask(ErrorsOrder(), RecentRequests),
        ask(TopOrder(span), Top),
    )
    return Names(fetches, errors, top)


async def changes(parts: ConsoleParts, span: Span, *, names: bool) -> Mapping[str, bytes]:
    """Return the events of one rendering: one for each part, and the time of its figures."""
    overview = await look(parts, span, names=names)
    now = overview.status.at
    each = cooperatively(parts_of(overview, parts.templates), 1)
    drawn = {name: event("part", part) async for name, part in each}
    return {**drawn, "as-of": event("as-of", clock(now, now))}


def _span(request: ConsoleRequest) -> Span:
    chosen = request.query.get("span", "day")
    span = next((each for each in SPANS if each == chosen), None)
    if span is None:
        raise Problem(400, f"expected a span of {', '.join(SPANS)}")
    return span
