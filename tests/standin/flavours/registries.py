"""The registries' token servers, each as documented."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from tests.standin.hub import Hub

from .server import Asked, Flavour, Refused, jwt


class Ghcr(Flavour):
    """GitHub's: any user with a valid token; a wrong token and a hidden repository are 403."""

    service = "ghcr.io"

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer a GET."""
        user = self.login(asked, Refused(403, "DENIED"))
        return {"token": self.token(user, asked.query)}


class Quay(Flavour):
    """Quay's: robots are called `organization+name`."""

    path = "/v2/auth"
    service = "quay.io"

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer a GET, which names the account twice."""
        user = self.login(asked)
        if user is not None and asked.query.get("account") != user:
            raise Refused(400, "UNKNOWN")
        return {"token": self.token(user, asked.query)}


class Harbor(Flavour):
    """Harbor's: robots are called `robot$name`; an empty `access_token` beside the token."""

    path = "/service/token"
    service = "harbor-registry"

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer a GET."""
        token = self.token(self.login(asked), asked.query)
        issued = "2026-01-01T00:00:00Z"
        return {"token": token, "access_token": "", "expires_in": 1800, "issued_at": issued}


class Nexus(Flavour):
    """Nexus's, with the Docker Bearer Token Realm: tokens without a stated lifetime."""

    path = "/v2/token"
    service = "http://nexus/repository/docker/v2/token"

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer a GET."""
        token = f"DockerToken.{uuid.uuid4()}"
        return {"token": self.token(self.login(asked), asked.query, token)}


class GitLab(Flavour):
    """GitLab's: only a JWT, from another host than the registry's."""

    path = "/jwt/auth"
    service = "container_registry"
    life = 300

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer a GET."""
        user = self.login(asked, Refused(403, "DENIED"))
        now = int(time.time())
        token = jwt(iat=now, nbf=now - 5, exp=now + self.life, sub=user)
        return {"token": self.token(user, asked.query, token)}


class OAuth(Flavour):
    """A server of identity tokens (distribution's docs/content/spec/auth/oauth.md).

    `users` are identity tokens by name.
    """

    service = "registry.example"

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer a POST, which must name the client."""
        form = asked.form
        if asked.method != "POST" or form.get("grant_type") != "refresh_token":
            raise Refused(405, "UNSUPPORTED")
        names = {token: name for name, token in self.users.items()}
        if form.get("refresh_token") not in names or not form.get("client_id"):
            raise Refused(400, "UNAUTHORIZED")
        token = self.token(names[form["refresh_token"]], form)
        return {"access_token": token, "scope": form["scope"], "expires_in": 300}


class Acr(Flavour):
    """Azure's (Azure/acr docs/AAD-OAuth.md, Token-BasicAuth.md).

    `users` are service principals; `directory` are the directory's access tokens, by user.
    """

    path = "/oauth2/token"
    service = "127.0.0.1"  # the registry's host
    life = 300

    def __init__(self, hub: Hub, users: Mapping[str, str] | None = None) -> None:
        super().__init__(hub, users)
        self.directory: dict[str, str] = {}
        self.refresh_tokens: dict[str, str] = {}  # users, by token

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer both endpoints; only the token itself states its lifetime."""
        if asked.method == "GET" and asked.path == self.path:
            return {"access_token": self._access_token(self.login(asked), asked.query)}
        match asked.method, asked.path, asked.form.get("grant_type"):
            case "POST", "/oauth2/exchange", "access_token":
                return {"refresh_token": self._exchange(asked)}
            case "POST", self.path, "refresh_token":
                user = self.refresh_tokens.get(asked.form.get("refresh_token", ""))
                if user is None:
                    raise Refused
                return {"access_token": self._access_token(user, asked.form)}
        raise Refused(404, "NOT_FOUND")

    def refresh_token(self, user: str) -> str:
        """Make a refresh token."""
        now = int(time.time())
        token = jwt(iat=now, exp=now + 3 * 3600, grant_type="refresh_token", aud=self.service)
        self.refresh_tokens[token] = user
        return token

    def _exchange(self, asked: Asked) -> str:
        names = {token: name for name, token in self.directory.items()}
        user = names.get(asked.form.get("access_token", ""))
        if user is None or asked.form.get("service") != self.service:
            raise Refused
        return self.refresh_token(user)

    def _access_token(self, user: str | None, fields: Any) -> str:  # noqa: ANN401
        now = int(time.time())
        return self.token(user, fields, jwt(iat=now, exp=now + self.life, sub=user))


class EcrPublic(Flavour):
    """Amazon's public gallery: bearer tokens, anonymous or for a login from AWS."""

    path = "/token/"
    service = "public.ecr.aws"

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer a GET."""
        return {"token": self.token(self.login(asked, Refused(403, "DENIED")), asked.query)}


class GoogleRegistry(Flavour):
    """Google's: access tokens and service accounts' keys are passwords of fixed users."""

    path = "/v2/token"
    service = "pkg.dev"

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer a GET."""
        token = self.token(self.login(asked), asked.query)
        return {"token": token, "expires_in": 3600, "issued_at": "2026-01-01T00:00:00Z"}
