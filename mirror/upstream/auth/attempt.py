"""A login attempt: one request, sent with the remembered login, then logged in as a new client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import aiohttp
from aiohttp import hdrs

from mirror.oci.errors import Denied, UpstreamFailure
from mirror.upstream.auth.challenge import Challenge
from mirror.upstream.auth.credential_manager import LoginRefused
from mirror.upstream.auth.credentials import CredentialsUnavailable
from mirror.upstream.auth.login import Authorization, Login, LoginRequest, own_scope

_MORE = 2  # requests after the first one
_FETCHES = 2  # tokens: as many as a new client fetches, plus one

Send = Callable[[Authorization], Awaitable[aiohttp.ClientResponse]]


class LoginAttempt:
    """Sends a request with the remembered login; if that is refused, logs in as a new client would.

    Remembered state (a challenge, a token, a scope) only saves requests, so its refusal decides
    nothing. An expired token is refused by 401, with a challenge or without, or by 403 at some
    registries: then a new one is sent, once. A challenge is trusted for realm and service. The
    scope is the repository's own, as docker requests it; if that does not suffice, the challenge's
    scope is added, as by containerd and skopeo.
    """

    def __init__(self, login: Login, repository: str, send: Send) -> None:
        self._login = login
        self._repository = repository
        self._send = send
        self._fetched: set[tuple[str, str, str]] = set()  # realm, service and scope of each token
        self._sent = {""}
        self._failure: UpstreamFailure | None = None  # of the last token request that failed

    async def run(self) -> aiohttp.ClientResponse:
        """Return upstream's response, possibly its final refusal.

        Raises LoginRefused, Denied by the token server, or UpstreamFailure.
        """
        authorization = await self._first()
        response = await self._send(authorization)
        for _ in range(_MORE):
            try:
                better = await self._better(authorization, response)
            except BaseException:
                response.release()
                raise
            if better is None:
                break
            response.release()
            authorization, response = better, await self._send(better)
        if authorization.key and response.status not in (401, 403):
            self._login.note_scope(self._repository, authorization.key.scope)
        return response

    async def _first(self) -> Authorization:
        """Return the known login; empty if unknown or not available."""
        if self._login.known is None:
            return Authorization()
        scope = self._login.scope(self._repository)
        authorization = await self._answer(LoginRequest(self._login.known, self._repository, scope))
        return authorization or Authorization()

    async def _better(
        self, authorization: Authorization, response: aiohttp.ClientResponse
    ) -> Authorization | None:
        """Return the next login to try; None if the response is final."""
        if response.url.origin() != self._login.url.origin():
            return None  # the target of a redirect cannot ask for a login
        if not self._refused(authorization, response.status):
            if self._failure and not authorization.header and response.status >= 400:
                raise self._failure
            return None
        if authorization.token or response.status == 401:  # a 403 does not concern a password
            self._login.drop(authorization)
        headers = response.headers.getall(hdrs.WWW_AUTHENTICATE, [])
        challenge = await self._login.choose_challenge(headers, authorization)
        better = None
        if challenge is not None:
            better = await self._next(challenge, authorization, response.status)
        if better is None and self._failure:
            raise self._failure
        return better

    def _refused(self, authorization: Authorization, status: int) -> bool:
        """Whether a status concerns the login rather than the requested content.

        A 403 does if the login worked before, or if none was sent because none is known.
        """
        if status != 403:
            return status == 401
        if authorization.token:
            return not authorization.fresh
        return bool(authorization.header) or self._login.known is None

    async def _next(
        self, challenge: Challenge, refused: Authorization, status: int
    ) -> Authorization | None:
        for scope in self._scopes(challenge, refused):
            request = LoginRequest(challenge, self._repository, scope, refused, status == 403)
            if (better := await self._answer(request)) is not None:
                return better
        return None

    def _scopes(self, challenge: Challenge, refused: Authorization) -> Iterator[str]:
        own, named = own_scope(self._repository), challenge.params.get("scope", "").strip()
        if refused.key:  # the scope that worked before, if different
            yield refused.key.scope
        yield own
        if challenge.scheme == "bearer" and named not in ("", own):
            # Without the own scope if the token server denies it.
            yield named if isinstance(self._failure, Denied) else f"{own} {named}"

    async def _answer(self, request: LoginRequest) -> Authorization | None:
        """Return a new answer to a challenge, None without one; stores a failure."""
        params = request.challenge.params
        what = (params.get("realm", ""), params.get("service", ""), request.scope)
        if what in self._fetched or len(self._fetched) >= _FETCHES:
            return None
        try:
            authorization = await self._login.answer(request)
        except (LoginRefused, CredentialsUnavailable):
            raise
        except UpstreamFailure as failure:
            if not request.refused or isinstance(failure, Denied):
                self._fetched.add(what)
                self._failure = failure
                return None
            raise
        if authorization.fresh:
            self._fetched.add(what)
        if authorization.header in self._sent:
            return None
        self._sent.add(authorization.header)
        return authorization
