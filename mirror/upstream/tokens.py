"""Bearer tokens: fetched once for all who wait, kept while they last, sent nowhere else."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import hdrs
from cachetools import TLRUCache
from yarl import URL

from mirror.flight import Flights
from mirror.oci.errors import (
    Denied,
    TooManyRequests,
    UpstreamMisbehaved,
    UpstreamUnavailable,
    shown,
)
from mirror.upstream.answers import PACE, Answer, read_retry_after
from mirror.upstream.wire import Wire, deadline, read_capped

MAX_ANSWER = 64 * 1024  # bytes of a token answer
_DEFAULT_LIFE = 60.0  # seconds; distribution's token spec, "expires_in"
_LONGEST_LIFE = 3600.0  # seconds; whatever an answer claims
_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account of a registry. The password shows in no repr."""

    username: str = ""
    password: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.username)

    def basic(self) -> str:
        """Return the Authorization header's value."""
        return aiohttp.encode_basic_auth(self.username, self.password)


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What a token is good for."""

    realm: str
    service: str
    scope: str
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and how long it may be used, in seconds from its receipt."""

    value: str = field(repr=False)
    life: float

    def header(self) -> str:
        """Return the Authorization header's value."""
        return f"Bearer {self.value}"


class Tokens:
    """The tokens of all upstreams, single flight."""

    def __init__(
        self,
        wire: Wire,
        on_answer: Callable[[Answer], None],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wire = wire
        self._on_answer = on_answer
        self._kept: TLRUCache[TokenKey, Token] = TLRUCache(
            _KEPT, ttu=lambda _, token, now: now + token.life, timer=timer
        )
        self._flights: Flights[TokenKey, Token] = Flights()

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._kept)} kept, {len(self._flights)} being fetched>"

    async def close(self) -> None:
        """Stop what is being fetched."""
        await self._flights.close()

    def drop(self, key: TokenKey, token: Token) -> None:
        """Forget a token that upstream refused, unless it has been replaced already."""
        if self._kept.get(key) is token:
            del self._kept[key]

    async def get(self, key: TokenKey, upstream: str) -> Token:
        """Return a good token, fetching it for `upstream` once however many ask.

        Raises Denied when the login is refused, UpstreamFailure for everything else.
        """
        return self._kept.get(key) or await self._flights.join(
            key, lambda: self._fetch(key, upstream)
        )

    async def _fetch(self, key: TokenKey, upstream: str) -> Token:
        url = _question(key)
        headers: dict[str, str] = {hdrs.ACCEPT: "application/json"}
        if key.credentials:
            headers[hdrs.AUTHORIZATION] = key.credentials.basic()
        account = key.credentials.username

        def tell(response: aiohttp.ClientResponse | None, seconds: float) -> None:
            status = None if response is None else response.status
            self._on_answer(
                Answer(upstream, account, "token", "GET", status, seconds, "", key.scope)
            )

        async with (
            # Ends before the question that waits for it: the next one must not join what is
            # about to fail.
            deadline(0.9 * self._wire.patience.answer, url),
            await self._wire.ask("GET", url, headers, tell) as response,
        ):
            if response.status in (401, 403) and "html" not in response.content_type:
                raise Denied(f"{url.host} refuses the login of {account!r}")
            if response.status == 429:
                raise TooManyRequests(
                    f"token server {url.host} is asked too often",
                    retry_after=read_retry_after(response.headers) or PACE,
                )
            if response.status != 200:
                raise UpstreamUnavailable(f"token server {url.host} answers {response.status}")
            token = _read(await read_capped(response, MAX_ANSWER, "token answer"))
        self._kept[key] = token
        return token


def _question(key: TokenKey) -> URL:
    """Add to the realm, which may have a query already."""
    url = URL(key.realm)
    query = {"service": key.service, "scope": key.scope, "account": key.credentials.username}
    return url.extend_query({name: value for name, value in query.items() if value})


def _read(body: bytes) -> Token:
    """Read a token answer (distribution's token spec); its life is cut by a fifth, to be safe."""
    try:
        answer: dict[str, Any] = json.loads(body)
        value = answer.get("access_token") or answer.get("token")
        life = float(answer.get("expires_in") or _DEFAULT_LIFE)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UpstreamMisbehaved("upstream's token answer is not understood") from None
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise UpstreamMisbehaved("upstream's token answer holds no token")
    return Token(value, min(max(life, _DEFAULT_LIFE), _LONGEST_LIFE) * 0.8)


def check_realm(upstream: URL, realm: str, *, credentials: bool) -> str:
    """Return the realm if it may be asked; raises UpstreamMisbehaved.

    Credentials go only to the upstream's own host or registrable domain, never from https to
    http (CVE-2026-33540: an upstream that names a foreign realm gets them).
    """
    try:
        url = URL(realm)
    except ValueError:
        url = URL()
    encrypted = url.scheme == "https" or url.scheme == upstream.scheme == "http"
    if not url.host or not encrypted:
        raise UpstreamMisbehaved(f"upstream names the token server {shown(realm)}")
    if credentials and _domain(url.host) != _domain(upstream.host or ""):
        raise UpstreamMisbehaved(f"token server {url.host} is not trusted with a password")
    return realm


def _domain(host: str) -> str:
    """Return the last two labels of a host name, an address as it is."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ".".join(host.lower().rstrip(".").split(".")[-2:])
