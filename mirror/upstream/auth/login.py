"""Login to one upstream: the Authorization for a request, learned from challenges."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cachetools import LRUCache
from yarl import URL

from mirror.oci.errors import Denied, UpstreamFailure
from mirror.upstream.auth import challenge
from mirror.upstream.auth.challenge import Challenge
from mirror.upstream.auth.credential_manager import (
    CredentialManager,
    CredentialsRefused,
    LoginRefused,
)
from mirror.upstream.auth.credentials import ANONYMOUS, Credentials, CredentialsUnavailable
from mirror.upstream.auth.realm_policy import check_realm, is_readable
from mirror.upstream.auth.token_exchange import Token, TokenKey
from mirror.upstream.auth.tokens import Tokens

_SCOPES = 1024  # repositories with an unusual scope that are remembered


@dataclass(frozen=True, slots=True)
class LoginPolicy:
    """The allowed ways to log in to an upstream.

    `eager` sends Basic without a challenge. `realms` are further origins that may see the
    credentials.
    """

    schemes: Collection[str] = frozenset({"bearer", "basic"})
    eager: bool = False
    realms: Collection[URL] = ()


@dataclass(frozen=True, slots=True)
class Authorization:
    """An Authorization header, with its credentials, and its token if it is one.

    `fresh`: the token was fetched for this request, so another one would be no better.
    """

    header: str = field(default="", repr=False)
    credentials: Credentials = ANONYMOUS
    key: TokenKey | None = None
    token: Token | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """The login that a request needs: a challenge, and the scope of its token.

    `refused` was sent before and rejected; `forbidden`: by a 403, which may concern the repository.
    """

    challenge: Challenge
    repository: str
    scope: str
    refused: Authorization | None = None
    forbidden: bool = False


class Login:
    """The login state of one upstream.

    The realm and service of its first challenge serve all its repositories, so that only the first
    request of all gets a 401. All of it is a guess until upstream accepts it: see `LoginAttempt`.
    """

    def __init__(
        self,
        upstream: str,
        url: URL,
        credential_manager: CredentialManager,
        login_policy: LoginPolicy,
        tokens: Tokens,
    ) -> None:
        self.url = url
        self.known = Challenge("basic") if login_policy.eager else None
        self._upstream = upstream
        self._credential_manager = credential_manager
        self._login_policy = login_policy
        self._tokens = tokens
        self._scopes: LRUCache[str, str] = LRUCache(_SCOPES)
        self._checked: tuple[tuple[str, bool], URL] | None = None  # the last realm
        self._checking = asyncio.Lock()

    def scope(self, repository: str) -> str:
        """Return the scope that last worked for a repository: its own at most registries."""
        return self._scopes.get(repository) or own_scope(repository)

    def note_scope(self, repository: str, scope: str) -> None:
        """Remember a scope that worked for a repository, if it is not its own."""
        if scope != own_scope(repository):
            self._scopes[repository] = scope
        else:
            self._scopes.pop(repository, None)

    def forget(self, repository: str) -> None:
        """Forget the token for a repository, or for none: the next request fetches a new one."""
        self._tokens.forget(self.scope(repository))

    def drop(self, refused: Authorization) -> None:
        """Discard a refused token, or have a refused login tried anew."""
        if refused.key and refused.token:
            self._tokens.drop(refused.key, refused.token)
        else:
            self._credential_manager.doubt(refused.credentials)

    async def choose_challenge(
        self, headers: Sequence[str], refused: Authorization
    ) -> Challenge | None:
        """Return the challenge to answer; None if there is none.

        The known challenge replaces an unusable one. It also takes precedence if a token has
        expired and the new challenge names another scheme: gateways in front of registries send
        Basic. If none is known, the challenge at `/v2/` decides, as for other clients.
        """
        read = challenge.parse(headers)
        chosen = challenge.choose(read, self._login_policy.schemes)
        if self.known is not None and (chosen is None or self._outweighs(chosen, refused)):
            return self.known
        if chosen is None and challenge.choose(read, ("bearer", "basic")) is None:
            chosen = challenge.choose(
                challenge.parse(await self._root_challenges()), self._login_policy.schemes
            )
        return chosen

    async def _root_challenges(self) -> Sequence[str]:
        with suppress(UpstreamFailure):  # a failure at /v2/ says nothing about the request
            return await self._tokens.challenges(self._root(), self._upstream)
        return ()

    def _outweighs(self, chosen: Challenge, refused: Authorization) -> bool:
        """Whether the known challenge takes precedence over this one."""
        if self.known is None or self.known.scheme != "bearer":
            return False
        if chosen.scheme == "basic":
            return refused.token is not None and not refused.fresh
        return not is_readable(chosen.params["realm"])

    async def answer(self, request: LoginRequest) -> Authorization:
        """Return the answer to a challenge; without a header if there is none.

        A kept token is used even during the account's backoff: using it is no login. Raises
        LoginRefused, Denied, or UpstreamFailure.
        """

        async def attempt(credentials: Credentials) -> Authorization:
            if request.challenge.scheme == "basic":
                return await self._basic(request, credentials)
            if credentials.kind == "registry":
                return self._own_token(request, credentials)
            return await self._bearer(request, credentials)

        try:
            return await self._credential_manager.use(request.repository, attempt)
        except (LoginRefused, CredentialsUnavailable):
            authorization = None if request.refused else self._held_token(request)
            if authorization is None:
                raise
            return authorization

    def _held_token(self, request: LoginRequest) -> Authorization | None:
        credentials = self._credential_manager.held(request.repository)
        if credentials is None or self._checked is None or request.challenge.scheme != "bearer":
            return None
        key = _key(self._checked[1], request, credentials)
        token = self._tokens.kept(key)
        return None if token is None else Authorization(token.header(), credentials, key, token)

    def _root(self) -> URL:
        """Return the URL that clients request first."""
        return URL(f"{str(self.url).rstrip('/')}/v2/")

    async def _basic(self, request: LoginRequest, credentials: Credentials) -> Authorization:
        """Try credentials at /v2/ before using them: a 401 there concerns no repository."""
        if not credentials or credentials.kind != "password":
            return Authorization()
        authorization = Authorization(credentials.basic(), credentials)
        if request.forbidden and request.refused and request.refused.header == authorization.header:
            raise self._no_access(request)
        if not self._credential_manager.accepted(credentials):
            url, account_name = self._root(), credentials.username
            if not await self._tokens.accepts_basic(
                url, authorization.header, account_name, self._upstream
            ):
                raise CredentialsRefused(f"{url.host} refuses the login")
        self.known = Challenge("basic")
        return authorization

    def _own_token(self, request: LoginRequest, credentials: Credentials) -> Authorization:
        """Send the registry's configured token, only once, as it cannot be exchanged."""
        authorization = Authorization(f"Bearer {credentials.password}", credentials)
        if request.refused and request.refused.header == authorization.header:
            raise self._no_access(request)
        return authorization

    def _no_access(self, request: LoginRequest) -> CredentialsRefused:
        """Report that upstream refuses the login, or access to the repository."""
        what = "the token it gave" if request.challenge.scheme == "bearer" else "the login"
        words = f"{self._upstream} refuses {what}, or gives it no access to"
        return CredentialsRefused(words, Denied(f"{words} {request.repository}"))

    async def _bearer(self, request: LoginRequest, credentials: Credentials) -> Authorization:
        params = request.challenge.params
        anywhere = {name: value for name, value in params.items() if name != "scope"}
        self.known = Challenge(request.challenge.scheme, anywhere)
        realm = await self._realm(params["realm"], credentials=bool(credentials))
        key = _key(realm, request, credentials)
        fresh = self._tokens.kept(key) is None
        token = await self._tokens.get(key, self._upstream)
        return Authorization(token.header(), credentials, key, token, fresh)

    async def _realm(self, realm: str, *, credentials: bool) -> URL:
        """Check a realm, one at a time; the result is kept while upstream names the same one.

        The check may occupy a thread for a third of a second, and client logins need threads, too.
        """
        asked, known = (realm, credentials), self._checked
        if known is not None and known[0] == asked:
            return known[1]
        async with self._checking:
            listed = self._login_policy.realms
            url = await check_realm(self.url, realm, listed, credentials=credentials)
            self._checked = (asked, url)
        return url


def own_scope(repository: str) -> str:
    """Return a repository's standard scope (distribution's docs/content/spec/auth/scope.md)."""
    return f"repository:{repository}:pull" if repository else ""


def _key(realm: URL, request: LoginRequest, credentials: Credentials) -> TokenKey:
    return TokenKey(
        str(realm),
        request.challenge.params.get("service", ""),
        request.scope,
        credentials,
    )
