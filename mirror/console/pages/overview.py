"""The overview: concerns, savings, limits, upstreams and disk.

It consists of parts, each an element with an id, which are also sent again as they change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from markupsafe import Markup

from mirror.admin.messages.errors import RecentRequests
from mirror.admin.messages.fetches import Fetches
from mirror.admin.messages.history import History, Point
from mirror.admin.messages.status import SpanFigures, Status
from mirror.admin.messages.top import Top
from mirror.budget.summary import Budgets
from mirror.console.pages.limits import card
from mirror.console.render.charts import Axis, Bars, ChartLine, ceiling, chart
from mirror.console.render.numbers import count, share
from mirror.console.render.templates import Templates

Span = Literal["hour", "day", "week"]
SPANS: tuple[Span, ...] = ("hour", "day", "week")
MOST_FETCHES = 10
MOST_ERRORS = 20
MOST_TOP = 10
MOST_SCHEDULES = 50


@dataclass(frozen=True, slots=True)
class Names:
    """The figures that name images and clients, for operators only."""

    fetches: Fetches
    errors: RecentRequests
    top: Top


@dataclass(frozen=True, slots=True)
class Overview:
    """The figures of the overview, for one of SPANS; without `names` for other viewers."""

    span: Span
    status: Status
    history: History
    budgets: Budgets
    names: Names | None

    @property
    def figures(self) -> SpanFigures:
        """The sums of the span."""
        return next(each for each in self.status.spans if each.name == self.span)

    @property
    def title(self) -> str:
        """The figures of the page's title: the share from the cache, and the pulls left."""
        figures = self.figures
        parts = [f"{share(figures.hits, figures.requests)} from the cache"]
        left = [each.remaining for each in self.budgets.accounts if each.remaining is not None]
        return ", ".join([*parts, *([f"{count(min(left))} pulls left"] if left else [])])


def parts_of(overview: Overview, templates: Templates) -> Iterator[tuple[str, Markup]]:
    """Yield the name and the text of each part, from the most important one on."""
    status, names = overview.status, overview.names
    yield "concerns", templates.render("overview/concerns.html", status=status)
    yield "figures", templates.render("overview/figures.html", figures=overview.figures)
    yield "charts", _charts(overview, templates)
    yield "limits", _limits(overview, templates)
    yield "health", templates.render("overview/health.html", status=status)
    yield "fetches", _fetches(overview, templates)
    if names:
        yield "schedules", _schedules(overview, templates)
        requests = names.errors.requests[:MOST_ERRORS]
        yield "errors", templates.render("overview/errors.html", requests=requests, now=status.at)
        yield "top", templates.render("overview/top.html", top=_first(names.top))


def _fetches(overview: Overview, templates: Templates) -> Markup:
    names = overview.names
    fetches = names.fetches.fetches if names else ()
    return templates.render(
        "overview/fetches.html",
        status=overview.status,
        names=names is not None,
        fetches=fetches[:MOST_FETCHES],
        more=max(0, len(fetches) - MOST_FETCHES),
    )


def _schedules(overview: Overview, templates: Templates) -> Markup:
    schedules = overview.status.schedules
    return templates.render(
        "overview/schedules.html",
        schedules=schedules[:MOST_SCHEDULES],
        more=max(0, len(schedules) - MOST_SCHEDULES),
        now=overview.status.at,
    )


def _first(top: Top) -> Top:
    return replace(top, images=top.images[:MOST_TOP], clients=top.clients[:MOST_TOP])


def _charts(overview: Overview, templates: Templates) -> Markup:
    history = overview.history
    return templates.render(
        "overview/charts.html",
        share_chart=share_chart(history),
        pulls_chart=pulls_chart(history),
        rows=history.points[::-1],
        now=overview.status.at,
    )


def _limits(overview: Overview, templates: Templates) -> Markup:
    now = overview.status.at
    accounts = overview.budgets.accounts
    limited = [each for each in accounts if each.limit is not None]
    return templates.render(
        "overview/limits.html",
        cards=[card(number, account, now) for number, account in enumerate(limited)],
        unlimited=[each for each in accounts if each.limit is None],
        names=overview.names is not None,
        now=now,
    )


def share_chart(history: History) -> Markup:
    """Return the share from the cache over time, of requests and of bytes."""
    by_requests = _shares(history, lambda point: (point.hits, point.requests))
    known = [value for _, value in by_requests if value is not None]
    least, most = min(known, default=0), max(known, default=0)
    description = "No requests are recorded in this time."
    if known:
        description = f"Of requests, {least:.0f} to {most:.0f} %; {known[-1]:.0f} % at last."
    return chart(
        "share",
        "Share of requests and bytes that came from the cache",
        description,
        ChartLine("first", by_requests, area=True),
        ChartLine("second", _shares(history, lambda point: (point.sent_from_cache, point.sent))),
        axis=Axis(history.begin, history.end),
        most=100,
        label=lambda value: f"{value:.0f} %",
    )


def pulls_chart(history: History) -> Markup:
    """Return the pulls over time: those not counted, and above them those counted."""
    points = history.points
    bars = Bars(
        history.step,
        [(each.at, max(0, each.asked - each.counted), each.counted) for each in points],
    )
    asked, counted = sum(each.asked for each in points), sum(each.counted for each in points)
    return chart(
        "pulls",
        "Pulls by clients, and the part that upstream counted",
        f"{count(asked)} pulls, of which upstream counted {count(counted)}.",
        bars,
        axis=Axis(history.begin, history.end),
        most=ceiling(bars.most),
    )


def _shares(
    history: History, parts: Callable[[Point], tuple[int, int]]
) -> list[tuple[float, float | None]]:
    """Return percentages in the middle of their steps; a missing step, or one of none, is a gap."""
    points = {point.at: parts(point) for point in history.points}
    values: list[tuple[float, float | None]] = []
    for at in range(history.begin, history.end, history.step):
        part, whole = points.get(at, (0, 0))
        values.append((at + history.step / 2, 100 * part / whole if whole else None))
    return values
