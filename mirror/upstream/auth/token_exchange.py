"""Token exchanges: the request for a bearer token for each kind of credentials, and its response.

Sources: distribution's docs/content/spec/auth/{token,oauth}.md; Azure/acr docs/AAD-OAuth.md.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import hdrs
from yarl import URL

from mirror.oci import strict_json
from mirror.oci.errors import UpstreamMisbehaved
from mirror.upstream.auth.credentials import Credentials

_CLIENT = "mirror"  # "client_id": a name for the token server's log
_DEFAULT_LIFE = 60.0  # seconds; distribution's token spec, "expires_in"
_LONGEST_LIFE = 3600.0  # seconds, even if a response claims more
_EARLY = 0.8  # of a token's life, after which it is no longer used


@dataclass(frozen=True, slots=True)
class TokenKey:
    """The scope of a token: realm, service, OAuth scope and credentials."""

    realm: str
    service: str
    scope: str
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and its lifetime in seconds from its receipt."""

    value: str = field(repr=False)
    life: float

    def header(self) -> str:
        """Return the value of the Authorization header."""
        return f"Bearer {self.value}"


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to a token server. `form` is its body, if it has one."""

    method: Literal["GET", "POST"]
    url: URL
    authorization: str = field(default="", repr=False)
    form: Mapping[str, str] = field(default_factory=dict, repr=False)

    def headers(self) -> dict[str, str]:
        """Return the headers to send."""
        headers: dict[str, str] = {hdrs.ACCEPT: "application/json"}
        if self.authorization:
            headers[hdrs.AUTHORIZATION] = self.authorization
        return headers


def with_password(key: TokenKey) -> TokenRequest:
    """Request a token by GET, with Basic for an account; the realm may have a query already."""
    credentials = key.credentials
    query = {
        "service": key.service,
        "scope": key.scope,
        "account": credentials.username if credentials else "",
    }
    url = URL(key.realm).extend_query({name: value for name, value in query.items() if value})
    return TokenRequest("GET", url, credentials.basic() if credentials else "")


def with_refresh_token(key: TokenKey, token: str) -> TokenRequest:
    """Request a token by POST, as in OAuth 2 (RFC 6749, 6)."""
    form = {
        "grant_type": "refresh_token",
        "service": key.service,
        "client_id": _CLIENT,
        "scope": key.scope,
        "refresh_token": token,
    }
    return TokenRequest("POST", URL(key.realm), form=form)


def for_refresh_token(key: TokenKey) -> TokenRequest:
    """Request a refresh token from Azure's registry, for an access token of its directory."""
    url = URL(key.realm)
    form = {
        "grant_type": "access_token",
        "service": key.service,
        "access_token": key.credentials.password,
    }
    return TokenRequest("POST", url.with_path(url.path.rpartition("/")[0] + "/exchange"), form=form)


def read(body: bytes, *names: str) -> Token:
    """Return the first of these fields that is a token; its life is reduced by a fifth for safety.

    Without a valid lifetime in the response, that in the token applies (a JWT's `exp`). Raises
    UpstreamMisbehaved.
    """
    try:
        answer = strict_json.read(body)
    except ValueError:
        raise UpstreamMisbehaved("upstream's token response is not a JSON object") from None
    value = next((answer[name] for name in names if _is_token(answer.get(name))), None)
    if value is None:
        raise UpstreamMisbehaved("upstream's token response contains no token")
    life = _seconds(answer.get("expires_in"))
    if not life > 0:  # missing or invalid, NaN included
        life = _life_of(claims(value))
    return Token(value, min(max(_DEFAULT_LIFE, life), _LONGEST_LIFE) * _EARLY)


def _is_token(value: object) -> bool:
    """Whether a value is a string that a header can carry."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and bool(value)


def claims(token: str) -> dict[str, Any]:
    """Parse the claims of a JWT (RFC 7519), unverified; empty if it is not a JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        return strict_json.read(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}


def _life_of(claimed: Mapping[str, Any]) -> float:
    """Return a JWT's life in seconds, by its issuer's clock if stated; 0 if unknown."""
    begins, ends = claimed.get("iat", time.time()), claimed.get("exp")
    if not isinstance(ends, int | float) or not isinstance(begins, int | float):
        return 0
    return max(_seconds(ends) - _seconds(begins), 0)


def _seconds(number: Any) -> float:  # noqa: ANN401 - any JSON value
    """Return a number of seconds, also if given as text; 0 for anything else."""
    try:
        return float(number)
    except (OverflowError, TypeError, ValueError):
        return 0
