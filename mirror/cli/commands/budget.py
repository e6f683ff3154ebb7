"""`mirror budget`: the pulls left, their spenders, and the time that they last."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator

from mirror.admin.messages import BudgetOrder, Record
from mirror.budget.summary import AccountBudget, Budgets, Spender
from mirror.budget.window import HOUR, recent
from mirror.cli.orders import add_place, as_json, carry_out
from mirror.util.units import duration

_WIDE = 40  # characters of the longest bar
_NAME = 60  # characters of a spender's name


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command)
    command.add_argument("--json", action="store_true", help="print an object, times in seconds")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    return carry_out(options, BudgetOrder(), as_json if options.json else _words)


def _words(record: Record) -> Iterable[str]:
    return lines(record, time.time()) if isinstance(record, Budgets) else ()


def lines(budgets: Budgets, now: float) -> Iterator[str]:
    """Yield a table, the window as bars, and the largest spenders; `now` in epoch seconds."""
    for number, account in enumerate(budgets.accounts):
        if number:
            yield ""
        name = account.account or "anonymous"
        seen = f", seen as {account.source}" if account.source else ""
        yield f"{account.upstream}, {name}{seen}"
        for key, text in _facts(account, now):
            yield f"  {key:<10}{text}"
        if account.used and account.limit is not None:
            yield from _bars(account, now)
        if account.used:
            yield from _spenders("client", account.clients)
            yield from _spenders("repository", account.repositories)
            yield from _spenders("tag", account.tags)


def _facts(account: AccountBudget, now: float) -> Iterator[tuple[str, str]]:
    window = duration(account.window)
    if account.limit is None:
        yield "limit", "none announced by upstream"
    else:
        yield "limit", f"{account.limit} pulls in {window}"
        yield "left", f"{account.remaining}, {_source(account)}"
    yield "used", _used(account)
    yield "rate", f"{account.rate:g} pulls an hour, measured over the last {_recent(account)}"
    if account.limit is not None:
        yield "forecast", _forecast(account, now)
    if account.shut:
        yield "gate", f"shut: not asked for pulls before {_clock(now + account.shut, now)}"
    if account.asked is not None:
        yield "saved", _saved(account.asked, account.used, window)


def _recent(account: AccountBudget) -> str:
    span = recent(account.window)
    return "one" if span == HOUR else duration(span)


def _source(account: AccountBudget) -> str:
    if account.heard is None:
        return "by the mirror's count: upstream gives no figure"
    if account.heard >= account.window:
        return f"by the mirror's count: upstream's last figure is {duration(account.heard)} old"
    return f"by upstream's figure {duration(account.heard)} ago, less the pulls since"


def _used(account: AccountBudget) -> str:
    text = f"{account.used} by this mirror"
    if account.others and account.others > 0:
        return f"{text}, {account.others} by others behind the same address"
    if account.others and account.others < 0:
        return f"{text}, of which upstream did not count {-account.others}"
    return text


def _forecast(account: AccountBudget, now: float) -> str:
    if account.remaining == 0:
        text = "spent"
    elif account.lasts is None:
        text = "lasts at this rate"
    else:
        text = f"spent at {_clock(now + account.lasts, now)} at this rate"
    if account.returns and account.remaining == 0:
        text += f"; the next pull is back at {_clock(now + account.returns[0], now)}"
    if account.whole:
        text += f"; whole again at {_clock(now + account.whole, now)}, if none is spent"
    return text


def _saved(asked: int, used: int, window: str) -> str:
    return f"{max(0, asked - used)} of the {asked} pulls that clients made in about {window}"


def _bars(account: AccountBudget, now: float) -> Iterator[str]:
    """Draw the window, the oldest part first: its pulls come back first."""
    part = account.window / len(account.spent)
    most = max(account.spent)
    yield f"  {'MADE FROM':>12}  {'BACK FROM':<12}PULLS"
    for number, pulls in enumerate(account.spent):
        since = now - account.window + number * part
        bar = "#" * -(-pulls * _WIDE // max(most, _WIDE))
        times = f"{_clock(since, now):>12}  {_clock(since + account.window, now):<12}"
        yield f"  {times}{pulls or '':>4} {bar}".rstrip()


def _spenders(what: str, spenders: tuple[Spender, ...]) -> Iterator[str]:
    if spenders:
        yield f"  pulls by {what}"
    for spender in spenders:
        name = spender.shown
        name = name if len(name) <= _NAME else name[: _NAME - 1] + "…"
        yield f"    {spender.pulls:>5}  {name}"


def _clock(at: float, now: float) -> str:
    """Return the time of day, with the date if it is another day."""
    then, today = time.localtime(at), time.localtime(now)
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%m-%d %H:%M", then)
