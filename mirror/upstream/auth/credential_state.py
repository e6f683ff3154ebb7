"""The credentials for one path of a registry, with their validity and backoff."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mirror.upstream.auth.credentials import (
    ANONYMOUS,
    Credentials,
    CredentialsUnavailable,
    FoundCredentials,
)

FIRST_REST = 5.0  # seconds; mistaken refusals are over soon, as they are for a client that retries
REST = 600.0  # seconds; Docker Hub locks an account for about ten minutes after failed logins
LOOK_AGAIN = 5.0  # seconds between reads of a source that failed, or gave refused credentials
_EARLY = 0.8  # of the credentials' life, after which they are renewed
_LEAST = 60.0  # seconds that new credentials are valid, even if the clocks disagree
_TRIES = 2  # refused in a row: a source may return other credentials at each read


@dataclass(slots=True)
class CredentialState:
    """Credentials with the times, by the account's timer, of reading, renewal and expiry.

    `accepted`: the credentials that upstream accepted last, or that cannot be judged. `refused`:
    those rejected since, each with the end of its backoff. `failure`: the source's last error;
    `failed`: until when it counts.
    """

    path: str
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

    def take(self, found: FoundCredentials, now: float) -> None:
        """Store the source's credentials.

        If its clock is behind, they may seem to have ended already: without a minimum life, the
        source would be read for every request.
        """
        self.failure = None
        self.credentials, self.read, self.source = found.credentials, now, found.source
        life = max(found.life, _LEAST)
        self.due, self.ends = now + _EARLY * life, now + life
        if found.credentials in self.refused:
            self._look_again(now)

    def fail(self, failure: CredentialsUnavailable, now: float) -> bool:
        """Record a source's error; returns whether the current credentials are still valid."""
        self.failure, self.failed = failure, now + LOOK_AGAIN
        good = self.ends > now
        if good:
            self.due = min(self.failed, self.ends)
        return good

    def accept(self, credentials: Credentials) -> None:
        """Record that upstream accepts these credentials: earlier refusals are cleared."""
        self.accepted = credentials
        self.refused.clear()
        self.refusals = 0

    def doubt(self, credentials: Credentials) -> None:
        """Have accepted credentials tried anew."""
        if self.accepted == credentials:
            self.accepted = None

    def refuse(self, credentials: Credentials, now: float) -> bool:
        """Record that upstream refuses these credentials; returns whether that is new.

        After the first refusal they may be tried again at once; each further one in a row doubles
        the backoff. A mistaken refusal costs nothing, two cost seconds, and a wrong password is
        eight failed logins in ten minutes, then one every ten minutes.
        """
        self.doubt(credentials)
        if credentials != self.credentials:  # outdated: replaced meanwhile
            return False
        new = self.refused.get(credentials, now) <= now
        if new:
            self.refusals += 1
        rest = min(FIRST_REST * 2 ** min(self.refusals - 2, 20), REST) if self.refusals > 1 else 0
        self.refused[credentials] = max(self.refused.get(credentials, now), now + rest)
        self._look_again(now)
        return new

    def shut(self, now: float) -> float:
        """Return the seconds for which no credentials at all are to be tried.

        Without this, a source that returns other credentials at each read would be tried for ever.
        """
        self.refused = {each: until for each, until in self.refused.items() if until > now}
        return min(self.refused.values()) - now if len(self.refused) >= _TRIES else 0.0

    def _look_again(self, now: float) -> None:
        self.due = min(self.due, now + LOOK_AGAIN)
