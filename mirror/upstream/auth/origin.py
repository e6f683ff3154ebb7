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
    `counts_pulls` is that it is known to have a pull limit, whatever its headers say.
    """

    name: str
    url: URL
    account: Account
    ways: Ways = field(default_factory=Ways)
    whose: str = ""
    logs_in: bool = False
    counts_pulls: bool = False
