"""The pull limits on the overview: a card for each account, with its forecast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from mirror.budget.summary import AccountBudget
from mirror.console.render.charts import Axis, Bars, ChartLine, ceiling, chart
from mirror.console.render.numbers import clock, count

_STEPS = 48  # of the forecast


@dataclass(frozen=True, slots=True)
class Card:
    """An account with a limit, and its forecast in words and as a chart."""

    account: AccountBudget
    forecast: str
    chart: Markup


def card(number: int, account: AccountBudget, now: float) -> Card:
    """Return the card of an account with a limit; `number` is its place on the page."""
    return Card(account, forecast(account, now), _chart(f"limit-{number}", account, now))


def forecast(account: AccountBudget, now: float) -> str:
    """Return when the pulls are spent, when the next one comes back, and when all are back."""
    if account.remaining == 0:
        text = "Spent"
        if account.returns:
            text += f"; the next pull comes back at {clock(now + account.returns[0], now)}"
    elif account.lasts is None:
        text = "Lasts at this rate"
    else:
        text = f"Spent at {clock(now + account.lasts, now)} at this rate"
    if account.whole:
        text += f"; whole again at {clock(now + account.whole, now)} if none is spent"
    return f"{text}."


def _chart(name: str, account: AccountBudget, now: float) -> Markup:
    """Return the pulls spent in the last window, and the pulls left in the next one."""
    step = account.window / max(1, len(account.spent))
    stacks = [
        (now - account.window + number * step, 0.0, float(pulls))
        for number, pulls in enumerate(account.spent)
    ]
    left = list(_left(account, now))
    bars = Bars(step, stacks)
    return chart(
        name,
        f"Pulls of {account.upstream}: spent, and left at the present rate",
        f"{count(account.used)} were spent in the last window. {forecast(account, now)}",
        bars,
        ChartLine("forecast", left),
        axis=Axis(now - account.window, now + account.window),
        most=ceiling(max(bars.most, *(value for _, value in left))),
    )


def _left(account: AccountBudget, now: float) -> Iterator[tuple[float, float]]:
    """Yield the pulls left in the next window, if clients go on as they do."""
    limit, left = account.limit or 0, float(account.remaining or 0)
    step = account.window / _STEPS
    returns = list(account.returns)
    for number in range(_STEPS + 1):
        yield now + number * step, left
        after = (number + 1) * step
        back = sum(1 for each in returns if number * step < each <= after)
        left = min(max(left + back - account.rate * step / 3600, 0.0), float(limit))
