"""The account of one upstream: credentials renewed in time, and a backoff after refusals."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from mirror.oci.errors import Denied, UpstreamFailure, shown
from mirror.upstream.auth.credential_state import LOOK_AGAIN, CredentialState
from mirror.upstream.auth.credentials import (
    Credentials,
    CredentialSource,
    CredentialsUnavailable,
    FoundCredentials,
)
from mirror.util.singleflight import SingleFlight

_log = logging.getLogger(__name__)

T = TypeVar("T")


class CredentialsRefused(Exception):
    """Upstream rejects these credentials. Used within a login only, and not raised to callers.

    `denied` is the error to raise if a cause other than the password is possible.
    """

    def __init__(self, message: str, denied: Denied | None = None) -> None:
        super().__init__(message)
        self.denied = denied


class LoginRefused(UpstreamFailure):
    """Upstream rejects the configured account.

    This says nothing about the requested content, so stored content is served, stale if necessary.
    """

    status, code = 403, "DENIED"


class CredentialManager:
    """Supplies the credentials of one upstream. `timer` counts seconds.

    Credentials not accepted yet are tried by one request at a time: a wrong password is one failed
    login, however many requests wait.
    """

    def __init__(
        self, upstream: str, source: CredentialSource, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._upstream = upstream
        self._source = source
        self._timer = timer
        self._places: dict[str, CredentialState] = {}
        self._trial = asyncio.Lock()
        self._flights: SingleFlight[str, None] = SingleFlight()

    def __repr__(self) -> str:
        rest = sum(len(place.refused) for place in self._places.values())
        return f"<CredentialManager of {self._upstream}: {len(self._places)} held, {rest} rest>"

    async def close(self) -> None:
        """Stop reading credentials."""
        await self._flights.close()

    async def use(self, repository: str, attempt: Callable[[Credentials], Awaitable[T]]) -> T:
        """Return the result of `attempt` with the credentials for a repository.

        If it raises CredentialsRefused, the source is read again, and other credentials are tried
        at once, one time. The same ones are tried again, too, unless they were refused just before:
        the refusal may be upstream's mistake. Raises LoginRefused, CredentialsUnavailable, and the
        errors of `attempt`.
        """
        name = self._source.place(repository)
        place = self._places.setdefault(name, CredentialState(name))
        credentials = await self._current(place)
        self._tell(place, credentials)
        try:
            return await self._try(place, credentials, attempt)
        except CredentialsRefused as refusal:
            _log.debug("upstream %s: %s; the account is read again", self._upstream, refusal)
            other = await self._instead_of(place, credentials, refusal.denied)
        try:
            return await self._try(place, other, attempt)
        except CredentialsRefused as refusal:
            raise refusal.denied or self._refusal(place, other) from None

    def _tell(self, place: CredentialState, credentials: Credentials) -> None:
        """Log the account in use, and its source."""
        if _log.isEnabledFor(logging.DEBUG):
            whose = f"as {shown(credentials.username)}" if credentials else "anonymously"
            of = f" of {place.name}" if place.name else ""
            _log.debug("upstream %s%s is asked %s, by %s", self._upstream, of, whose, place.source)

    def held(self, repository: str) -> Credentials | None:
        """Return the credentials last read for a repository; None before the first read."""
        place = self._places.get(self._source.place(repository))
        return place.credentials if place and place.read > -math.inf else None

    def accepted(self, credentials: Credentials) -> bool:
        """Whether upstream has accepted these credentials since they were last in doubt."""
        return any(place.accepted == credentials for place in self._places.values())

    def doubt(self, credentials: Credentials) -> None:
        """Have accepted credentials tried anew."""
        for place in self._places.values():
            place.doubt(credentials)

    async def _try(
        self,
        place: CredentialState,
        credentials: Credentials,
        attempt: Callable[[Credentials], Awaitable[T]],
    ) -> T:
        if not credentials or place.accepted == credentials:
            return await self._again(place, credentials, attempt)
        async with self._trial:
            if place.accepted != credentials:  # not accepted during the wait either
                return await self._first(place, credentials, attempt)
        return await self._again(place, credentials, attempt)

    async def _again(
        self,
        place: CredentialState,
        credentials: Credentials,
        attempt: Callable[[Credentials], Awaitable[T]],
    ) -> T:
        """Use accepted credentials; simultaneous refusals count as one."""
        try:
            return await attempt(credentials)
        except CredentialsRefused as refusal:
            if place.accepted == credentials:
                self._note(place, credentials, refusal.denied)
            raise

    async def _first(
        self,
        place: CredentialState,
        credentials: Credentials,
        attempt: Callable[[Credentials], Awaitable[T]],
    ) -> T:
        """Try credentials that have not been accepted yet."""
        if reading := self._flights.get(place.name):  # after a refusal of these credentials
            await asyncio.wait([reading])
        if place.credentials != credentials:
            raise CredentialsRefused("the credentials were replaced meanwhile")
        self._raise_if_resting(place, credentials)
        try:
            result = await attempt(credentials)
        except CredentialsRefused as refusal:
            if refusal.denied:  # no trial can tell more, so no other request waits for one
                place.accepted = credentials
            self._note(place, credentials, refusal.denied)
            raise
        place.accept(credentials)
        return result

    async def _current(self, place: CredentialState) -> Credentials:
        if place.shut(self._timer()):
            raise self._refusal(place, place.credentials)
        if place.due <= self._timer():
            await self._read(place)
        self._raise_if_resting(place, place.credentials)
        return place.credentials

    async def _instead_of(
        self, place: CredentialState, refused: Credentials, denied: Denied | None
    ) -> Credentials:
        """Return the credentials to try after a refusal, or raise its meaning."""
        # The source is not read again for each denied request of many.
        just = denied is not None and place.read > self._timer() - LOOK_AGAIN
        if place.credentials == refused and not just:
            with suppress(CredentialsUnavailable):
                await self._read(place)
        self._raise_if_resting(place, place.credentials)
        if place.credentials == refused and denied is not None:
            raise denied
        return place.credentials

    def _note(self, place: CredentialState, refused: Credentials, denied: Denied | None) -> None:
        """Start a backoff of refused credentials, unless the refusal may concern the content."""
        if denied is None and place.refuse(refused, self._timer()) and self._rests(place, refused):
            _log.warning(
                "upstream %s refuses the login of %s; the same password is not tried "
                "again for %d seconds",
                self._upstream,
                shown(refused.username),
                self._rests(place, refused),
            )

    def _raise_if_resting(self, place: CredentialState, credentials: Credentials) -> None:
        if self._rests(place, credentials) > 0:
            raise self._refusal(place, credentials)

    def _rests(self, place: CredentialState, credentials: Credentials) -> float:
        """Return the seconds left of the backoff; a refusal in one place holds in all."""
        now = self._timer()
        refused = (each.refused.get(credentials, now) - now for each in self._places.values())
        return max(place.shut(now), *refused)

    def _refusal(self, place: CredentialState, credentials: Credentials) -> LoginRefused:
        return LoginRefused(
            f"upstream {self._upstream} refuses the login of {credentials.username!r}",
            retry_after=max(1, round(self._rests(place, credentials))),
        )

    async def _read(self, place: CredentialState) -> None:
        if place.failure is not None and place.failed > self._timer():
            raise place.failure.again()
        await self._flights.join(place.name, lambda: self._read_anew(place))

    async def _found(self, place: CredentialState) -> FoundCredentials:
        try:
            return await self._source.read(place.name)
        except CredentialsUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - third-party code, on third-party files
            # Not the exception's text: it may quote a secret.
            words, kind = "the credential source failed", type(error).__name__
            raise CredentialsUnavailable(words, kind) from None

    async def _read_anew(self, place: CredentialState) -> None:
        try:
            found = await self._found(place)
        except CredentialsUnavailable as error:
            self._make_do(place, error)
            return
        if place.failure is not None:
            _log.warning("the account for upstream %s is available again", self._upstream)
        place.take(found, self._timer())

    def _make_do(self, place: CredentialState, error: CredentialsUnavailable) -> None:
        """Continue with the current credentials while valid, else raise; read again soon."""
        if place.failure is None:
            words = "the account for upstream %s is not available: %s%s"
            _log.warning(words, self._upstream, error, error.cause and f" ({error.cause})")
        if not place.fail(error, self._timer()):
            raise error
