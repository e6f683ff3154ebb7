"""The credential manager: renews an upstream's credentials in time, and backs off if refused."""

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
        self._states: dict[str, CredentialState] = {}
        self._trial = asyncio.Lock()
        self._flights: SingleFlight[str, None] = SingleFlight()

    def __repr__(self) -> str:
        rest = sum(len(state.refused) for state in self._states.values())
        return f"<CredentialManager of {self._upstream}: {len(self._states)} held, {rest} rest>"

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
        path = self._source.path(repository)
        state = self._states.setdefault(path, CredentialState(path))
        credentials = await self._current(state)
        self._tell(state, credentials)
        try:
            return await self._try(state, credentials, attempt)
        except CredentialsRefused as refusal:
            _log.debug("upstream %s: %s; the account is read again", self._upstream, refusal)
            other = await self._instead_of(state, credentials, refusal.denied)
        try:
            return await self._try(state, other, attempt)
        except CredentialsRefused as refusal:
            raise refusal.denied or self._refusal(state, other) from None

    def _tell(self, state: CredentialState, credentials: Credentials) -> None:
        """Log the account in use, and its source."""
        if _log.isEnabledFor(logging.DEBUG):
            account_name = f"as {shown(credentials.username)}" if credentials else "anonymously"
            of = f" of {state.path}" if state.path else ""
            _log.debug(
                "upstream %s%s is asked %s, by %s", self._upstream, of, account_name, state.source
            )

    def held(self, repository: str) -> Credentials | None:
        """Return the credentials last read for a repository; None before the first read."""
        state = self._states.get(self._source.path(repository))
        return state.credentials if state and state.read > -math.inf else None

    def accepted(self, credentials: Credentials) -> bool:
        """Whether upstream has accepted these credentials since they were last in doubt."""
        return any(state.accepted == credentials for state in self._states.values())

    def doubt(self, credentials: Credentials) -> None:
        """Have accepted credentials tried anew."""
        for state in self._states.values():
            state.doubt(credentials)

    async def _try(
        self,
        state: CredentialState,
        credentials: Credentials,
        attempt: Callable[[Credentials], Awaitable[T]],
    ) -> T:
        if not credentials or state.accepted == credentials:
            return await self._again(state, credentials, attempt)
        async with self._trial:
            if state.accepted != credentials:  # not accepted during the wait either
                return await self._first(state, credentials, attempt)
        return await self._again(state, credentials, attempt)

    async def _again(
        self,
        state: CredentialState,
        credentials: Credentials,
        attempt: Callable[[Credentials], Awaitable[T]],
    ) -> T:
        """Use accepted credentials; simultaneous refusals count as one."""
        try:
            return await attempt(credentials)
        except CredentialsRefused as refusal:
            if state.accepted == credentials:
                self._note(state, credentials, refusal.denied)
            raise

    async def _first(
        self,
        state: CredentialState,
        credentials: Credentials,
        attempt: Callable[[Credentials], Awaitable[T]],
    ) -> T:
        """Try credentials that have not been accepted yet."""
        if reading := self._flights.get(state.path):  # after a refusal of these credentials
            await asyncio.wait([reading])
        if state.credentials != credentials:
            raise CredentialsRefused("the credentials were replaced meanwhile")
        self._raise_if_resting(state, credentials)
        try:
            result = await attempt(credentials)
        except CredentialsRefused as refusal:
            if refusal.denied:  # no trial can tell more, so no other request waits for one
                state.accepted = credentials
            self._note(state, credentials, refusal.denied)
            raise
        state.accept(credentials)
        return result

    async def _current(self, state: CredentialState) -> Credentials:
        if state.shut(self._timer()):
            raise self._refusal(state, state.credentials)
        if state.due <= self._timer():
            await self._read(state)
        self._raise_if_resting(state, state.credentials)
        return state.credentials

    async def _instead_of(
        self, state: CredentialState, refused: Credentials, denied: Denied | None
    ) -> Credentials:
        """Return the credentials to try after a refusal, or raise its meaning."""
        # The source is not read again for each denied request of many.
        just = denied is not None and state.read > self._timer() - LOOK_AGAIN
        if state.credentials == refused and not just:
            with suppress(CredentialsUnavailable):
                await self._read(state)
        self._raise_if_resting(state, state.credentials)
        if state.credentials == refused and denied is not None:
            raise denied
        return state.credentials

    def _note(self, state: CredentialState, refused: Credentials, denied: Denied | None) -> None:
        """Start a backoff of refused credentials, unless the refusal may concern the content."""
        if denied is None and state.refuse(refused, self._timer()) and self._rests(state, refused):
            _log.warning(
                "upstream %s refuses the login of %s; the same password is not tried "
                "again for %d seconds",
                self._upstream,
                shown(refused.username),
                self._rests(state, refused),
            )

    def _raise_if_resting(self, state: CredentialState, credentials: Credentials) -> None:
        if self._rests(state, credentials) > 0:
            raise self._refusal(state, credentials)

    def _rests(self, state: CredentialState, credentials: Credentials) -> float:
        """Return the seconds left of the backoff; a refusal in one state holds in all."""
        now = self._timer()
        refused = (each.refused.get(credentials, now) - now for each in self._states.values())
        return max(state.shut(now), *refused)

    def _refusal(self, state: CredentialState, credentials: Credentials) -> LoginRefused:
        return LoginRefused(
            f"upstream {self._upstream} refuses the login of {credentials.username!r}",
            retry_after=max(1, round(self._rests(state, credentials))),
        )

    async def _read(self, state: CredentialState) -> None:
        if state.failure is not None and state.failed > self._timer():
            raise state.failure.again()
        await self._flights.join(state.path, lambda: self._read_anew(state))

    async def _found(self, state: CredentialState) -> FoundCredentials:
        try:
            return await self._source.read(state.path)
        except CredentialsUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - third-party code, on third-party files
            # Not the exception's text: it may quote a secret.
            words, kind = "the credential source failed", type(error).__name__
            raise CredentialsUnavailable(words, kind) from None

    async def _read_anew(self, state: CredentialState) -> None:
        try:
            found = await self._found(state)
        except CredentialsUnavailable as error:
            self._make_do(state, error)
            return
        if state.failure is not None:
            _log.warning("the account for upstream %s is available again", self._upstream)
        state.take(found, self._timer())

    def _make_do(self, state: CredentialState, error: CredentialsUnavailable) -> None:
        """Continue with the current credentials while valid, else raise; read again soon."""
        if state.failure is None:
            words = "the account for upstream %s is not available: %s%s"
            _log.warning(words, self._upstream, error, error.cause and f" ({error.cause})")
        if not state.fail(error, self._timer()):
            raise error
