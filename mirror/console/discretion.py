"""Discretion: the results that all viewers may see, without names of images, clients, accounts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from mirror.admin.messages import History, ScheduleStatus, Status
from mirror.admin.operations.concerns import concerns
from mirror.budget.summary import AccountBudget, Budgets

_HIDDEN = "an account"  # instead of its name
_HIDDEN_IMAGE = "an image"
_HIDDEN_SCHEDULE = "of images"
_HIDDEN_TROUBLE = "the log says how"  # instead of an error, which names files


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
    """Leave out names, and judge anew: so no phrase of a concern can have one."""
    limits = tuple(replace(each, account=_hidden(each.account)) for each in status.limits)
    disk = replace(status.disk, trouble=status.disk.trouble and _HIDDEN_TROUBLE)
    pins = (_HIDDEN_IMAGE,) * len(status.absent_pins)
    schedules = tuple(map(_schedule, status.schedules))
    nameless = replace(
        status, limits=limits, disk=disk, absent_pins=pins, schedules=schedules, concerns=()
    )
    return replace(nameless, concerns=tuple(concerns(nameless)))


def _schedule(schedule: ScheduleStatus) -> ScheduleStatus:
    """Leave out its name, which has that of an image, and the reason of a failure."""
    failure = schedule.failure and _HIDDEN_TROUBLE
    return replace(schedule, name=_HIDDEN_SCHEDULE, failure=failure)


def _hidden(account: str) -> str:
    return account and _HIDDEN


def _history(history: History) -> History:
    return history


PUBLIC: Mapping[type[Any], Callable[[Any], Any]] = MappingProxyType(
    {Budgets: _budgets, Status: _status, History: _history}
)
