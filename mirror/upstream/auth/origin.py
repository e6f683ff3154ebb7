"""Where an upstream is, and as whom it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from yarl import URL

from mirror.upstream.auth.account import Account
from mirror.upstream.auth.login import Ways


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream is, and how it is logged in to. `name` is what images call it.

    `whose` is what the account is called where pulls are counted: nothing if nobody's. `logs_in`
    says whether it may have one, so that what it gives us it may not give to everybody.
    `counts_pulls` is that it is known to have a pull limit, whatever its headers say. `prefix`
    stands before the name of every repository there: the project of a pull-through cache, where a
    registry has projects.
    """

    name: str
    url: URL
    account: Account
    ways: Ways = field(default_factory=Ways)
    whose: str = ""
    logs_in: bool = False
    counts_pulls: bool = False
    prefix: str = ""

    def named(self, repository: str) -> str:
        """Return what this registry calls a repository."""
        return f"{self.prefix}/{repository}" if self.prefix and repository else repository
