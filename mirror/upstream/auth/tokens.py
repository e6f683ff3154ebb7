"""Bearer tokens: fetched with single flight, and kept while they are valid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import aiohttp
from aiohttp import hdrs
from cachetools import TLRUCache
from yarl import URL

from mirror.oci.errors import (
    Denied,
    TooManyRequests,
    UpstreamMisbehaved,
    UpstreamUnavailable,
    may_pass,
)
from mirror.upstream.auth import token_exchange
from mirror.upstream.auth.credential_manager import CredentialsRefused
from mirror.upstream.auth.token_exchange import Token, TokenKey, TokenRequest
from mirror.upstream.errors import deadline, read_capped
from mirror.upstream.responses import is_page
from mirror.upstream.telemetry import PACE, Observer, UpstreamResponse, read_retry_after
from mirror.upstream.transport import Transport
from mirror.util.singleflight import SingleFlight

MAX_ANSWER = 64 * 1024  # bytes of a token response
_KEPT = 16 * 1024 * 1024  # bytes of tokens; each has one to four thousand
_BESIDE = 512  # bytes of memory per token, in addition to its text


class Tokens:
    """The tokens of one upstream, with single flight."""

    def __init__(
        self,
        transport: Transport,
        on_answer: Observer,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._on_answer = on_answer
        self._tokens: TLRUCache[TokenKey, Token] = TLRUCache(
            _KEPT,
            ttu=lambda _, token, now: now + token.life,
            timer=timer,
            getsizeof=lambda token: len(token.value) + _BESIDE,
        )
        self._flights: SingleFlight[TokenKey, Token] = SingleFlight()
        self._challenge_flights: SingleFlight[URL, Sequence[str]] = SingleFlight()

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._tokens)} kept, {len(self._flights)} being fetched>"

    async def close(self) -> None:
        """Cancel running fetches."""
        await self._flights.close()
        await self._challenge_flights.close()

    def drop(self, key: TokenKey, token: Token) -> None:
        """Forget a refused token, unless it has been replaced already."""
        if self._tokens.get(key) is token:
            del self._tokens[key]

    def kept(self, key: TokenKey) -> Token | None:
        """Return the kept token; None if there is none."""
        return self._tokens.get(key)

    def forget(self, scope: str) -> None:
        """Forget all tokens for a scope."""
        for key in [key for key in self._tokens if key.scope == scope]:
            self._tokens.pop(key, None)

    async def get(self, key: TokenKey, upstream: str) -> Token:
        """Return a valid token, fetched for `upstream` once for all concurrent callers.

        Raises CredentialsRefused, Denied if anonymous access is denied, UpstreamFailure otherwise.
        """
        return self._tokens.get(key) or await self._flights.share(
            key, lambda: self._fetch(key, upstream), may_pass
        )

    async def accepts_basic(self, url: URL, basic: str, account: str, upstream: str) -> bool:
        """Check whether a registry accepts this Basic login; raises UpstreamFailure.

        Only a 401 of the registry itself is a refusal. Any other response, a web page included,
        concerns `/v2/` itself, which some registries do not have: then the actual request decides.
        """
        request = TokenRequest("GET", url, basic)
        async with (
            deadline(0.9 * self._transport.timeouts.answer_timeout, url),
            await self._send(request, upstream, account, "") as response,
        ):
            return response.status != 401 or response.url.origin() != url.origin()

    async def challenges(self, url: URL, upstream: str) -> Sequence[str]:
        """Request the challenges at `/v2/`, once for concurrent callers; may be empty.

        Clients begin there (distribution-spec, "Determining Support"), so some registries send a
        challenge nowhere else. Raises UpstreamFailure.
        """
        return await self._challenge_flights.join(url, lambda: self._challenges(url, upstream))

    async def _challenges(self, url: URL, upstream: str) -> Sequence[str]:
        async with (
            deadline(0.5 * self._transport.timeouts.answer_timeout, url),
            await self._send(TokenRequest("GET", url), upstream, "", "") as response,
        ):
            own = response.status == 401 and response.url.origin() == url.origin()
            return response.headers.getall(hdrs.WWW_AUTHENTICATE, []) if own else ()

    async def _fetch(self, key: TokenKey, upstream: str) -> Token:
        # Ends before the request that waits for it: the next request must not join a fetch that is
        # about to fail.
        async with deadline(0.9 * self._transport.timeouts.answer_timeout, URL(key.realm)):
            token = self._tokens[key] = await self._granted(key, upstream)
        return token

    async def _granted(self, key: TokenKey, upstream: str) -> Token:
        match key.credentials.kind:
            case "refresh":
                request = token_exchange.with_refresh_token(key, key.credentials.password)
            case "access":
                return await self._exchanged(key, upstream)
            case _:
                request = token_exchange.with_password(key)
        return await self._ask(request, key, upstream)

    async def _exchanged(self, key: TokenKey, upstream: str) -> Token:
        """Fetch with a refresh token, which serves all scopes of a registry.

        If a kept refresh token is refused, the credentials that it was exchanged for may still be
        right.
        """
        for_all = replace(key, scope="")
        if (kept := self._tokens.get(for_all)) is not None:
            try:
                return await self._ask(
                    token_exchange.with_refresh_token(key, kept.value), key, upstream
                )
            except CredentialsRefused:
                self.drop(for_all, kept)
        request = token_exchange.for_refresh_token(key)
        new = self._tokens[for_all] = await self._ask(request, for_all, upstream, "refresh_token")
        return await self._ask(token_exchange.with_refresh_token(key, new.value), key, upstream)

    async def _ask(self, request: TokenRequest, key: TokenKey, upstream: str, *names: str) -> Token:
        """Request a token from a response field in `names`, by default that of access tokens."""
        account = key.credentials.username
        async with await self._send(request, upstream, account, key.scope) as response:
            if not 200 <= response.status < 300:  # any 2xx: 201 and 203 occur, and the body decides
                if response.status == 429:
                    self._transport.back_off(response, "token", request.url)
                raise _refusal(response, key, request)
            body = await read_capped(response, MAX_ANSWER, "token answer")
        try:
            return token_exchange.read(body, *names or ("access_token", "token"))
        except UpstreamMisbehaved:
            if is_page(response):  # from a gateway, temporarily
                raise _page(response) from None
            raise

    async def _send(
        self, request: TokenRequest, upstream: str, account: str, scope: str
    ) -> aiohttp.ClientResponse:
        def tell(response: aiohttp.ClientResponse | None, seconds: float) -> None:
            status = None if response is None else response.status
            method = request.method
            self._on_answer(
                UpstreamResponse(upstream, account, "token", method, status, seconds, "", scope)
            )

        return await self._transport.ask(
            request.method, request.url, request.headers(), tell, form=request.form or None
        )


def _refusal(response: aiohttp.ClientResponse, key: TokenKey, request: TokenRequest) -> Exception:
    """Return the meaning of a token server's failure: account, scope, or no answer at all."""
    host, credentials, status = response.url.host, key.credentials, response.status
    if status == 429:
        wait = read_retry_after(response.headers)
        wait = max(1, PACE if wait is None else wait)
        return TooManyRequests(f"the rate limit of {host} is exceeded", retry_after=wait)
    shown = response.url.origin() == request.url.origin()  # not to others (RFC 9110, 15.4)
    refused = _refused_login(response, key, request) if credentials and shown else None
    if refused is not None:
        return refused
    page = is_page(response)
    if not credentials and not page and status in (401, 403):
        return Denied(f"{host} denies anonymous access to {key.scope}")
    return _page(response) if page else UpstreamUnavailable(f"token server {host} answers {status}")


def _page(response: aiohttp.ClientResponse) -> UpstreamUnavailable:
    host, status = response.url.host, response.status
    return UpstreamUnavailable(f"token server {host} answers {status} with a web page")


def _refused_login(
    response: aiohttp.ClientResponse, key: TokenKey, request: TokenRequest
) -> CredentialsRefused | None:
    host, credentials, status = response.url.host, key.credentials, response.status
    page = is_page(response)
    refused = f"{host} refuses the login of {credentials.username!r}"
    # A 401 with a web page counts as a failed login, too. 400 is OAuth 2's response to an invalid
    # refresh token (RFC 6749, 5.2).
    if status == 401 or (status == 400 and request.method == "POST" and not page):
        return CredentialsRefused(refused)
    if status == 403 and not page:  # GHCR's response to a wrong password, too
        denied = Denied(f"{refused}, or gives it no access to {key.scope}")
        return CredentialsRefused(refused, denied)
    return None
