"""The token server: users, their repositories, and the lifetime of tokens."""

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs

from .answers import Answer, as_json, error
from .journal import Kind, Seen
from .repositories import Repositories
from .terms import Terms

TOKEN_BYTES = 1500  # as long as Docker Hub's


@dataclass(frozen=True)
class Grant:
    """The rights of one token."""

    user: str | None
    repositories: frozenset[str]
    expires_at: float


class Tokens:
    """Answers on the token port, and tells the registry the rights of a token."""

    def __init__(self, terms: Terms, repositories: Repositories) -> None:
        self._terms = terms
        self._repositories = repositories
        self._grants: dict[str, Grant] = {}

    def read(self, serial: int, method: str, target: str, headers: Mapping[str, str]) -> Seen:
        """Parse a request: its repository is that of the first scope."""
        path, _, query = target.partition("?")
        kind: Kind = "token" if path == "/token" else "other"
        repository = next(iter(repositories(query)), None)
        return Seen(serial, "token", method, path, query, headers, kind, repository)

    def challenge(self, seen: Seen) -> Answer | None:
        """Refuse a wrong password."""
        authorization = seen.headers.get("authorization")
        if authorization is None or self.user(authorization) is not None:
            return None
        return error(401, "incorrect username or password", "UNAUTHORIZED")

    def answer(self, seen: Seen) -> Answer:
        """Grant the requested scopes as far as the user may have them."""
        if seen.kind != "token":
            return error(404, "page not found")
        if seen.method != "GET":
            return error(405, "the token endpoint answers GET")
        if parse_qs(seen.query).get("service") != [self._terms.service]:
            return error(400, "unknown service", "UNKNOWN")
        user = self.user(seen.headers.get("authorization"))
        return as_json(self.issue(user, repositories(seen.query)))

    def user(self, authorization: str | None) -> str | None:
        """Return the user of these Basic credentials, if they are valid."""
        scheme, _, encoded = (authorization or "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return name if self._terms.users.get(name) == password else None

    def grant(self, authorization: str | None) -> Grant | None:
        """Return the rights of this Bearer token; None if it is unknown or too old."""
        scheme, _, token = (authorization or "").partition(" ")
        found = self._grants.get(token) if scheme.lower() == "bearer" else None
        return found if found and found.expires_at > self._terms.clock() else None

    def revoke(self) -> None:
        """Revoke all tokens so far."""
        self._grants.clear()

    def issue(
        self, user: str | None, names: list[str], token: str | None = None
    ) -> dict[str, object]:
        """Issue a token for a user, new or this one; returns an answer like Docker Hub's."""
        token = token or secrets.token_urlsafe(TOKEN_BYTES)
        allowed = frozenset(name for name in names if self._allowed(name, user))
        expires_at = self._terms.clock() + self._terms.token_life
        self._grants[token] = Grant(user, allowed, expires_at)
        return {
            "token": token,
            "access_token": token,
            "expires_in": int(self._terms.token_life),
            "issued_at": datetime.now(UTC).isoformat().replace("+00:00", "000Z"),
        }

    def _allowed(self, name: str, user: str | None) -> bool:
        repository = self._repositories.get(name)
        return repository is not None and repository.readable_by(user)

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._grants)} issued>"


def repositories(query: str) -> list[str]:
    """Return the repositories in the scopes of a query or form."""
    scopes = [
        scope.split(":") for value in parse_qs(query).get("scope", []) for scope in value.split()
    ]
    return [
        scope[1]
        for scope in scopes
        if len(scope) == 3 and scope[0] == "repository" and "pull" in scope[2].split(",")
    ]
