"""A visit: one request's attempts to log in, from remembered login state to a new client's way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import aiohttp
from aiohttp import hdrs

from mirror.oci.errors import Denied, UpstreamFailure
from mirror.upstream.auth.challenge import Challenge
from mirror.upstream.auth.credential_manager import LoginRefused
from mirror.upstream.auth.credentials import CredentialsUnavailable
from mirror.upstream.auth.login import Grant, Login, Want, own_scope

_MORE = 2  # requests after the first one
_FETCHES = 2  # tokens: as many as a new client fetches, plus one

Send = Callable[[Grant], Awaitable[aiohttp.ClientResponse]]


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
        self._shown = {""}
        self._failure: UpstreamFailure | None = None  # of the last token request that failed

    async def run(self) -> aiohttp.ClientResponse:
        """Return upstream's response, possibly its final refusal.

        Raises LoginRefused, Denied by the token server, or UpstreamFailure.
        """
        grant = await self._first()
        response = await self._send(grant)
        for _ in range(_MORE):
            try:
                better = await self._better(grant, response)
            except BaseException:
                response.release()
                raise
            if better is None:
                break
            response.release()
            grant, response = better, await self._send(better)
        if grant.key and response.status not in (401, 403):
            self._login.note_scope(self._repository, grant.key.scope)
        return response

    async def _first(self) -> Grant:
        """Return the known login; empty if unknown or not available."""
        if self._login.known is None:
            return Grant()
        scope = self._login.scope(self._repository)
        grant = await self._answer(Want(self._login.known, self._repository, scope))
        return grant or Grant()

    async def _better(self, grant: Grant, response: aiohttp.ClientResponse) -> Grant | None:
        """Return the next login to try; None if the response is final."""
        if response.url.origin() != self._login.url.origin():
            return None  # the target of a redirect cannot ask for a login
        if not self._refused(grant, response.status):
            if self._failure and not grant.header and response.status >= 400:
                raise self._failure
            return None
        if grant.token or response.status == 401:  # a 403 does not concern a password
            self._login.drop(grant)
        headers = response.headers.getall(hdrs.WWW_AUTHENTICATE, [])
        wanted = await self._login.wanted(headers, grant)
        better = None
        if wanted is not None:
            better = await self._next(wanted, grant, response.status)
        if better is None and self._failure:
            raise self._failure
        return better

    def _refused(self, grant: Grant, status: int) -> bool:
        """Whether a status concerns the login rather than the requested content.

        A 403 does if the login worked before, or if none was sent because none is known.
        """
        if status != 403:
            return status == 401
        if grant.token:
            return not grant.fresh
        return bool(grant.header) or self._login.known is None

    async def _next(self, wanted: Challenge, refused: Grant, status: int) -> Grant | None:
        for scope in self._scopes(wanted, refused):
            want = Want(wanted, self._repository, scope, refused, status == 403)
            if (better := await self._answer(want)) is not None:
                return better
        return None

    def _scopes(self, wanted: Challenge, refused: Grant) -> Iterator[str]:
        own, named = own_scope(self._repository), wanted.params.get("scope", "").strip()
        if refused.key:  # the scope that worked before, if different
            yield refused.key.scope
        yield own
        if wanted.scheme == "bearer" and named not in ("", own):
            # Without the own scope if the token server denies it.
            yield named if isinstance(self._failure, Denied) else f"{own} {named}"

    async def _answer(self, want: Want) -> Grant | None:
        """Return a new answer to a challenge, None without one; stores a failure."""
        params = want.challenge.params
        what = (params.get("realm", ""), params.get("service", ""), want.scope)
        if what in self._fetched or len(self._fetched) >= _FETCHES:
            return None
        try:
            grant = await self._login.answer(want)
        except (LoginRefused, CredentialsUnavailable):
            raise
        except UpstreamFailure as failure:
            if not want.refused or isinstance(failure, Denied):
                self._fetched.add(what)
                self._failure = failure
                return None
            raise
        if grant.fresh:
            self._fetched.add(what)
        if grant.header in self._shown:
            return None
        self._shown.add(grant.header)
        return grant
