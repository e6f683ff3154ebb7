"""A place: what is known of the credentials of one part of a registry, and when they rest."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mirror.upstream.auth.credentials import (
    ANONYMOUS,
    Credentials,
    CredentialsUnavailable,
    Found,
)

FIRST_REST = (
    5.0  # seconds; refusals by mistake are over soon, as they are for a client that retries
)
REST = 600.0  # seconds; Docker Hub locks an account for about ten minutes after failed logins
LOOK_AGAIN = 5.0  # seconds between looks at a source that failed, or gave what was refused
_EARLY = 0.8  # of the credentials' life, after which they are renewed
_LEAST = 60.0  # seconds that credentials are good for when they come, whatever the clocks say
_TRIES = 2  # refused one after the other: a source may have other credentials at each look


@dataclass(slots=True)
class Place:
    """Credentials: when they were read, are to be read anew, and end, by the account's timer.

    `accepted` are those that upstream took last, or that it cannot be told of; `refused` says until
    when each rests of those that it refused since. `failure` is why the source gave none, `failed`
    until when that counts.
    """

    name: str
    credentials: Credentials = ANONYMOUS
    read: float = -math.inf
    due: float = -math.inf
    ends: float = -math.inf
    accepted: Credentials | None = None
    refused: dict[Credentials, float] = field(default_factory=dict)
    refusals: int = 0
    failure: CredentialsUnavailable | None = None
    failed: float = -math.inf
    source: str = ""

    def take(self, found: Found, now: float) -> None:
        """Hold what the source gave.

        By a clock that is ahead of the source's it may seem to have ended already: that would have
        the source asked for each question.
        """
        self.failure = None
        self.credentials, self.read, self.source = found.credentials, now, found.source
        life = max(found.life, _LEAST)
        self.due, self.ends = now + _EARLY * life, now + life
        if found.credentials in self.refused:
            self._look_again(now)

    def fail(self, failure: CredentialsUnavailable, now: float) -> bool:
        """Note that the source gave nothing; returns whether what is held is still good."""
        self.failure, self.failed = failure, now + LOOK_AGAIN
        good = self.ends > now
        if good:
            self.due = min(self.failed, self.ends)
        return good

    def accept(self, credentials: Credentials) -> None:
        """Note that upstream takes these: what it refused before is over."""
        self.accepted = credentials
        self.refused.clear()
        self.refusals = 0

    def doubt(self, credentials: Credentials) -> None:
        """Have credentials tried anew that were accepted before."""
        if self.accepted == credentials:
            self.accepted = None

    def refuse(self, credentials: Credentials, now: float) -> bool:
        """Note that upstream refuses these; returns whether that is new.

        After the first they may be tried again at once; each one after it in a row has them rest
        for twice as long. A refusal by mistake costs nothing, two cost seconds, and a wrong
        password is eight failed logins in ten minutes and one in each ten minutes after.
        """
        self.doubt(credentials)
        if credentials != self.credentials:  # of old: others are held by now
            return False
        new = self.refused.get(credentials, now) <= now
        if new:
            self.refusals += 1
        rest = min(FIRST_REST * 2 ** min(self.refusals - 2, 20), REST) if self.refusals > 1 else 0
        self.refused[credentials] = max(self.refused.get(credentials, now), now + rest)
        self._look_again(now)
        return new

    def shut(self, now: float) -> float:
        """Return for how many seconds nothing at all is to be tried.

        A source that has other credentials at each look would have us try for ever.
        """
        self.refused = {who: until for who, until in self.refused.items() if until > now}
        return min(self.refused.values()) - now if len(self.refused) >= _TRIES else 0.0

    def _look_again(self, now: float) -> None:
        self.due = min(self.due, now + LOOK_AGAIN)
