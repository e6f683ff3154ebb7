"""Logging in to one upstream: which Authorization a question wants, learned from its challenges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from yarl import URL

from mirror.upstream import challenge
from mirror.upstream.challenge import Challenge
from mirror.upstream.tokens import Credentials, Token, TokenKey, Tokens, check_realm


@dataclass(frozen=True, slots=True)
class Grant:
    """An Authorization header, and the token behind it if it was one."""

    header: str = field(default="", repr=False)
    key: TokenKey | None = None
    token: Token | None = None


class Login:
    """What one upstream was found to want.

    The realm and service it named once serve its other repositories too, so that only the first
    question of all meets a 401.
    """

    def __init__(self, upstream: str, url: URL, credentials: Credentials, tokens: Tokens) -> None:
        self._upstream = upstream
        self._url = url
        self._credentials = credentials
        self._tokens = tokens
        self._known: Challenge | None = None

    async def grant(self, repository: str) -> Grant:
        """Return what to send with a question about `repository`; nothing if nothing is known."""
        if self._known is None:
            return Grant()
        return await self._answer(self._known, _pull_scope(repository))

    async def retry(
        self, refused: Grant, challenges: Iterable[str], repository: str
    ) -> Grant | None:
        """Learn from a 401 and return what to try once more, None if there is nothing better."""
        if refused.key and refused.token:
            self._tokens.drop(refused.key, refused.token)
        wanted = challenge.choose(challenge.parse(challenges), credentials=bool(self._credentials))
        if wanted is None or (wanted.scheme == "basic" and refused.header):
            return None
        self._known = wanted
        return await self._answer(wanted, wanted.params.get("scope") or _pull_scope(repository))

    async def _answer(self, wanted: Challenge, scope: str) -> Grant:
        if wanted.scheme == "basic":
            return Grant(self._credentials.basic())
        realm = check_realm(self._url, wanted.params["realm"], credentials=bool(self._credentials))
        key = TokenKey(realm, wanted.params.get("service", ""), scope, self._credentials)
        token = await self._tokens.get(key, self._upstream)
        return Grant(token.header(), key, token)


def _pull_scope(repository: str) -> str:
    return f"repository:{repository}:pull"
