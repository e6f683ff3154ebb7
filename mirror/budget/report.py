"""The report on each pull limit: its remainder, its spenders and its forecast."""

from __future__ import annotations

import math
from collections import Counter

from mirror.budget.account import Account
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand
from mirror.budget.summary import AccountBudget, Budgets, Spender
from mirror.budget.window import Window
from mirror.storage.metadata.rows import AccountKey

PARTS = 12  # of a window
_TOP = 5  # spenders reported
_RETURNS = 1000


async def report(budget: Budget, demand: Demand) -> Budgets:
    """Report on all accounts; those without data are left out, unless none has any."""
    accounts = [await _account(budget, demand, key, account) for key, account in budget.accounts()]
    with_data = [each for each in accounts if each.used or each.asked or each.limit is not None]
    return Budgets(tuple(with_data or accounts))


async def _account(
    budget: Budget, demand: Demand, key: AccountKey, account: Account
) -> AccountBudget:
    now, window = budget.now(), account.window
    reported, limited = window.reported, window.limit is not None
    spenders = await budget.ledger.spenders(key, window.length, _TOP)
    top = {
        what: tuple(Spender(row.name, row.pulls) for row in rows) for what, rows in spenders.items()
    }
    return AccountBudget(
        upstream=key.upstream,
        account=key.name,
        source=reported.source if reported else "",
        window=int(window.length),
        limit=window.limit,
        remaining=window.left(now),
        used=window.used(now),
        others=window.others(now) if reported else None,
        heard=int(now - reported.at) if reported else None,
        rate=round(window.rate(now) * 3600, 2),
        lasts=whole_seconds(window.exhausted_in(now)),
        whole=whole_seconds(window.all_back_in(now)) if limited else None,
        shut=math.ceil(account.shut_for(now)),
        asked=demand.asked_for(key.upstream, window.length) if budget.is_present(key) else None,
        spent=_parts(window, now),
        returns=tuple(math.ceil(back) for back in list(window.returns(now))[:_RETURNS]),
        clients=top["client"],
        repositories=top["repository"],
        tags=top["tag"],
    )


def _parts(window: Window, now: float) -> tuple[int, ...]:
    part = window.length / PARTS
    found = Counter(min(int(back / part), PARTS - 1) for back in window.returns(now))
    return tuple(found[number] for number in range(PARTS))


def whole_seconds(seconds: float) -> int | None:
    """Return whole seconds, rounded up; None for a time that never comes."""
    return None if math.isinf(seconds) else math.ceil(seconds)
