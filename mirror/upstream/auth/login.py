"""Logging in to one upstream: which Authorization a question wants, learned from its challenges."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from yarl import URL

from mirror.oci.errors import Denied, UpstreamDown, UpstreamMisbehaved, UpstreamUnavailable
from mirror.upstream.auth import challenge
from mirror.upstream.auth.account import Account, CredentialsRefused
from mirror.upstream.auth.challenge import Challenge
from mirror.upstream.auth.credentials import ANONYMOUS, Credentials
from mirror.upstream.auth.exchange import Token, TokenKey
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.auth.trust import check_realm


@dataclass(frozen=True, slots=True)
class Ways:
    """How an upstream may be logged in to.

    `eager` is Basic sent unasked; `realms` are origins that may see the credentials beside those
    that any upstream's may.
    """

    schemes: Collection[str] = frozenset({"bearer", "basic"})
    eager: bool = False
    realms: Collection[URL] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """An Authorization header, whose it is, and the token behind it if it was one."""

    header: str = field(default="", repr=False)
    credentials: Credentials = ANONYMOUS
    key: TokenKey | None = None
    token: Token | None = None


class Login:
    """What one upstream was found to want.

    The realm and service it named once serve its other repositories too, so that only the first
    question of all meets a 401.
    """

    def __init__(
        self, upstream: str, url: URL, account: Account, ways: Ways, tokens: Tokens
    ) -> None:
        self._upstream = upstream
        self._url = url
        self._account = account
        self._ways = ways
        self._tokens = tokens
        self._first = Challenge("basic") if ways.eager else None
        self._known = self._first
        self._checked: tuple[tuple[str, bool], URL] | None = None  # the last realm

    async def grant(self, repository: str) -> Grant:
        """Return what to send with a question about `repository`; nothing if nothing is known.

        Raises LoginRefused, Denied, or UpstreamFailure.
        """
        if self._known is None:
            return Grant()
        try:
            return await self._answer(self._known, repository)
        except (UpstreamMisbehaved, UpstreamUnavailable) as error:
            # It may name another token server by now; one that is down is still the same.
            if not isinstance(error, UpstreamDown):
                self._known = self._first
            raise

    def forget(self, repository: str) -> None:
        """Forget the token for a repository, or for none: the next question gets a fresh one."""
        self._tokens.forget(_scope(repository))

    async def retry(
        self, refused: Grant, challenges: Iterable[str], repository: str
    ) -> Grant | None:
        """Learn from a 401 and return what to try once more, None if there is nothing better.

        Raises LoginRefused, Denied, or UpstreamFailure.
        """
        if refused.key and refused.token:
            self._tokens.drop(refused.key, refused.token)
        wanted = challenge.choose(challenge.parse(challenges), self._ways.schemes)
        if wanted is None or wanted.scheme == "basic":  # in doubt, or it may not read this
            self._account.doubt(refused.credentials)
        if wanted is None:
            return None
        anywhere = {name: value for name, value in wanted.params.items() if name != "scope"}
        self._known = Challenge(wanted.scheme, anywhere)
        better = await self._answer(wanted, repository, refused)
        return None if better.header == refused.header else better

    async def _answer(
        self, wanted: Challenge, repository: str, refused: Grant | None = None
    ) -> Grant:
        async def attempt(credentials: Credentials) -> Grant:
            if wanted.scheme == "basic":
                return await self._basic(credentials)
            if credentials.kind == "registry":
                return self._own_token(credentials, repository, refused)
            return await self._bearer(wanted, repository, credentials)

        return await self._account.use(repository, attempt)

    async def _basic(self, credentials: Credentials) -> Grant:
        """Show credentials at /v2/ before they are used: a 401 there means them, and no name."""
        if not credentials or credentials.kind != "password":
            return Grant()
        grant = Grant(credentials.basic(), credentials)
        if not self._account.accepted(credentials):
            url = URL(f"{str(self._url).rstrip('/')}/v2/")
            if not await self._tokens.welcome(
                url, grant.header, credentials.username, self._upstream
            ):
                raise CredentialsRefused(f"{url.host} refuses the login")
        return grant

    def _own_token(self, credentials: Credentials, repository: str, refused: Grant | None) -> Grant:
        """Show the token that the registry gave before; once, as nobody exchanges it."""
        grant = Grant(f"Bearer {credentials.password}", credentials)
        if grant == refused:
            words = f"{self._upstream} refuses the token it gave, or gives it no access to"
            raise CredentialsRefused(words, Denied(f"{words} {repository}"))
        return grant

    async def _bearer(self, wanted: Challenge, repository: str, credentials: Credentials) -> Grant:
        realm = await self._realm(wanted.params["realm"], credentials=bool(credentials))
        scope = wanted.params.get("scope") or _scope(repository)
        key = TokenKey(str(realm), wanted.params.get("service", ""), scope, credentials)
        token = await self._tokens.get(key, self._upstream)
        return Grant(token.header(), credentials, key, token)

    async def _realm(self, realm: str, *, credentials: bool) -> URL:
        """Check a realm, once for as long as upstream names the same."""
        asked, known = (realm, credentials), self._checked
        if known is None or known[0] != asked:
            listed = self._ways.realms
            url = await check_realm(self._url, realm, listed, credentials=credentials)
            known = self._checked = (asked, url)
        return known[1]


def _scope(repository: str) -> str:
    """Return what a token has to be good for (distribution's docs/content/spec/auth/scope.md)."""
    return f"repository:{repository}:pull" if repository else ""
