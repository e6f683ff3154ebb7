"""The summary of the pull limits: their remainder, spenders and forecast, as records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Spender:
    """A client that spent pulls, or the repository or tag that they were spent on.

    The mirror itself, which warms images and keeps pinned ones, has no name.
    """

    name: str
    pulls: int

    @property
    def shown(self) -> str:
        """The name as people read it."""
        return self.name or "the mirror itself"


@dataclass(frozen=True, slots=True)
class AccountBudget:
    """The pull limit of one account of an upstream. Durations are in seconds from now.

    `heard` is the age of upstream's last answer about it, `rate` is in pulls an hour. `spent` has
    the window's pulls in equal parts of it, oldest first; `returns` has the times at which they
    come back, at most a thousand. `asked` counts the manifests that clients requested in the hours
    that the window touches, for the account in use now. None is no limit, no end, or not known.
    """

    upstream: str
    account: str
    source: str
    window: int
    limit: int | None
    remaining: int | None
    used: int
    others: int | None
    heard: int | None
    rate: float
    lasts: int | None
    whole: int | None
    shut: int
    asked: int | None
    spent: tuple[int, ...]
    returns: tuple[int, ...]
    clients: tuple[Spender, ...]
    repositories: tuple[Spender, ...]
    tags: tuple[Spender, ...]


@dataclass(frozen=True, slots=True)
class Budgets:
    """The pull limits of all accounts."""

    accounts: tuple[AccountBudget, ...]
    kind: Literal["budgets"] = "budgets"
