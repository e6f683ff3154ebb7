"""Discretion: the results that all viewers may see, without names of images, clients, accounts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from mirror.admin.messages import Concern, History, Status
from mirror.admin.operations.concerns import named
from mirror.budget.summary import AccountBudget, Budgets

_HIDDEN = "an account"  # instead of its name


def discreet(result: Any) -> Any:  # noqa: ANN401 - any result that is listed below
    """Return a result without names."""
    return PUBLIC[type(result)](result)


def _budgets(budgets: Budgets) -> Budgets:
    return replace(budgets, accounts=tuple(map(_account, budgets.accounts)))


def _account(budget: AccountBudget) -> AccountBudget:
    """Leave out the spenders, and upstream's name for the account or address."""
    return replace(
        budget,
        account=_hidden(budget.account),
        source="",
        clients=(),
        repositories=(),
        tags=(),
    )


def _status(status: Status) -> Status:
    disk = status.disk if status.disk.trouble is None else replace(status.disk, trouble="it fails")
    return replace(
        status,
        concerns=tuple(_concern(each, status) for each in status.concerns),
        limits=tuple(replace(each, account=_hidden(each.account)) for each in status.limits),
        disk=disk,
    )


def _concern(concern: Concern, status: Status) -> Concern:
    what = concern.what
    for limit in status.limits:
        what = what.replace(named(limit), named(replace(limit, account=_hidden(limit.account))))
    if status.disk.trouble:
        what = what.replace(f": {status.disk.trouble}", "")
    return replace(concern, what=what)


def _hidden(account: str) -> str:
    return account and _HIDDEN


def _history(history: History) -> History:
    return history


PUBLIC: Mapping[type[Any], Callable[[Any], Any]] = MappingProxyType(
    {Budgets: _budgets, Status: _status, History: _history}
)
