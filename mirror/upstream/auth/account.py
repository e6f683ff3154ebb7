"""The account of one upstream: its credentials, renewed in time, and left alone once refused."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from mirror.flight import Flights
from mirror.oci.errors import Denied, UpstreamFailure
from mirror.upstream.auth.credentials import Credentials, CredentialsUnavailable, Source

_log = logging.getLogger(__name__)

T = TypeVar("T")
REST = 600.0  # seconds; Docker Hub locks an account for about ten minutes after failed logins
_LOOK_AGAIN = (
    5.0  # seconds between looks at a source that failed, or whose credentials were refused
)
_EARLY = 0.8  # of the credentials' life, after which they are renewed


class CredentialsRefused(Exception):
    """An upstream takes no credentials like these: within a login only, nobody else meets it.

    `denied` is what it means where other than the password may be the reason.
    """

    def __init__(self, message: str, denied: Denied | None = None) -> None:
        super().__init__(message)
        self.denied = denied


class LoginRefused(UpstreamFailure):
    """Upstream refuses the account that it is asked with.

    That says nothing of what was asked for, so that what is cached is served, stale if need be.
    """

    status, code = 403, "DENIED"


@dataclass(slots=True)
class _Held:
    """Credentials: when they were read, are to be read anew, and end, by the account's timer."""

    credentials: Credentials
    read: float
    due: float
    ends: float


class Account:
    """Hands out the credentials of one upstream. `timer` counts seconds.

    Credentials that nobody has accepted yet are tried by one question at a time: however many
    wait, a wrong password is one failed login.
    """

    def __init__(
        self, upstream: str, source: Source, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._upstream = upstream
        self._source = source
        self._timer = timer
        self._held: dict[str, _Held] = {}  # by place
        self._failed: dict[str, tuple[float, CredentialsUnavailable]] = {}  # by place: until when
        self._refused: dict[Credentials, float] = {}  # until when they rest
        self._accepted: set[Credentials] = set()
        self._trial = asyncio.Lock()
        self._flights: Flights[str, _Held] = Flights()

    def __repr__(self) -> str:
        return f"<Account of {self._upstream}: {len(self._held)} held, {len(self._refused)} rest>"

    async def close(self) -> None:
        """Stop what is being read."""
        await self._flights.close()

    async def use(self, repository: str, attempt: Callable[[Credentials], Awaitable[T]]) -> T:
        """Return what `attempt` makes of the credentials for a repository.

        It raises CredentialsRefused where upstream does: then the source is read again, and other
        credentials are tried at once. Raises LoginRefused, CredentialsUnavailable, and what
        `attempt` raises.
        """
        credentials = await self._current(repository)
        while True:
            try:
                async with self._tried(credentials):
                    return await attempt(credentials)
            except CredentialsRefused as refusal:
                credentials = await self._instead_of(credentials, repository, refusal.denied)

    def accepted(self, credentials: Credentials) -> bool:
        """Whether upstream has taken these since they were last in doubt."""
        return credentials in self._accepted

    def doubt(self, credentials: Credentials) -> None:
        """Have credentials tried anew that were accepted before."""
        self._accepted.discard(credentials)

    @asynccontextmanager
    async def _tried(self, credentials: Credentials) -> AsyncIterator[None]:
        if not credentials or credentials in self._accepted:
            yield
            return
        async with self._trial:
            self._raise_if_resting(credentials)
            yield
            self._accepted.add(credentials)

    async def _current(self, repository: str) -> Credentials:
        place = self._source.place(repository)
        held = self._held.get(place)
        if held is None or held.due <= self._timer():
            held = await self._read(place)
        self._raise_if_resting(held.credentials)
        return held.credentials

    async def _instead_of(
        self, refused: Credentials, repository: str, denied: Denied | None
    ) -> Credentials:
        """Return other credentials if the source has some by now, else raise what it means."""
        self._accepted.discard(refused)
        if denied is None:
            self._let_rest(refused)
        other = await self._another(refused, repository, sure=denied is None)
        self._raise_if_resting(other)
        if other == refused:
            raise denied or self._refusal(refused)
        return other

    async def _another(self, refused: Credentials, repository: str, *, sure: bool) -> Credentials:
        """Read the source again; not for each of many who may not see something."""
        place = self._source.place(repository)
        held = self._held[place]
        just = not sure and held.read > self._timer() - _LOOK_AGAIN
        if held.credentials != refused or just:
            return held.credentials
        try:
            return (await self._read(place)).credentials
        except CredentialsUnavailable:
            return refused

    def _let_rest(self, refused: Credentials) -> None:
        now = self._timer()
        self._refused = {who: until for who, until in self._refused.items() if until > now}
        if refused not in self._refused:
            _log.warning(
                "upstream %s refuses the login of %r; it is not tried again with the same "
                "password for %d minutes",
                self._upstream,
                refused.username,
                REST / 60,
            )
        self._refused[refused] = now + REST

    def _raise_if_resting(self, credentials: Credentials) -> None:
        if self._refused.get(credentials, 0) > self._timer():
            raise self._refusal(credentials)

    def _refusal(self, credentials: Credentials) -> LoginRefused:
        rest = self._refused.get(credentials, 0) - self._timer()
        return LoginRefused(
            f"upstream {self._upstream} refuses the login of {credentials.username!r}",
            retry_after=max(1, round(rest)),
        )

    async def _read(self, place: str) -> _Held:
        until, failure = self._failed.get(place, (0.0, None))
        if failure is not None and until > self._timer():
            raise failure.again()
        return await self._flights.join(place, lambda: self._read_anew(place))

    async def _read_anew(self, place: str) -> _Held:
        try:
            found = await self._source.read(place)
        except CredentialsUnavailable as error:
            return self._make_do(place, error)
        if self._failed.pop(place, None):
            _log.warning("the credentials for upstream %s are there again", self._upstream)
        now = self._timer()
        due = now + _EARLY * found.life
        if self._refused.get(found.credentials, 0) > now:
            due = min(due, now + _LOOK_AGAIN)
        held = self._held[place] = _Held(found.credentials, now, due, now + found.life)
        self._accepted &= {each.credentials for each in self._held.values()}
        return held

    def _make_do(self, place: str, error: CredentialsUnavailable) -> _Held:
        """Go on with what is held while it is good, else raise the error; look again soon."""
        now = self._timer()
        if place not in self._failed:
            words = "the account for upstream %s cannot be had at present: %s (%s)"
            _log.warning(words, self._upstream, error, error.cause)
        self._failed[place] = (now + _LOOK_AGAIN, error)
        held = self._held.get(place)
        if held is None or held.ends <= now:
            raise error
        held.due = now + _LOOK_AGAIN
        return held
