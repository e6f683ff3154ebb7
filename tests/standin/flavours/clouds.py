"""The clouds' APIs, as far as a login to their registries needs them."""

from __future__ import annotations

import base64
import secrets
import time
from typing import Any

from aiohttp import web

from .server import Asked, Refused, Server


class EcrPublicApi(Server):
    """GetAuthorizationToken of ecr-public, which moto lacks (AWS's JSON protocol 1.1)."""

    target = "SpencerFrontendService.GetAuthorizationToken"

    def __init__(self) -> None:
        super().__init__()
        self.password = secrets.token_urlsafe(32)
        self.life = 12 * 3600

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Give a login for a request that is signed for the only region with this API."""
        signature = asked.headers.get("authorization", "")
        if asked.headers.get("x-amz-target") != self.target or "/us-east-1/" not in signature:
            raise Refused(400, "InvalidAction")
        token = base64.b64encode(f"AWS:{self.password}".encode()).decode()
        return {"authorizationData": {"authorizationToken": token, "expiresAt": self._end()}}

    def _end(self) -> float:
        return time.time() + self.life

    def sent(self, document: dict[str, Any]) -> web.Response:
        """Return the response, with the content type of AWS's protocol."""
        return web.json_response(document, content_type="application/x-amz-json-1.1")


class GoogleAccounts(Server):
    """Google's metadata server, and the token endpoint of its service accounts."""

    metadata = "/computeMetadata/v1/instance/service-accounts/default"

    def __init__(self) -> None:
        super().__init__()
        self.access_token = secrets.token_urlsafe(32)
        self.life = 3600

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer google-auth's requests, and only with the header that no browser sends."""
        token = {"access_token": self.access_token, "expires_in": self.life, "token_type": "Bearer"}
        if asked.method == "POST" and asked.path == "/token":
            if asked.form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
                raise Refused(400, "invalid_grant")
            return token
        if asked.headers.get("metadata-flavor") != "Google":
            raise Refused(403, "Forbidden")
        if asked.path.startswith(self.metadata):
            account = {"email": "robot@project", "scopes": [], "aliases": ["default"]}
            return token if asked.path.endswith("/token") else account
        return {}

    def sent(self, document: dict[str, Any]) -> web.Response:
        """Return the response, with the header of Google's metadata server."""
        return web.json_response(document, headers={"Metadata-Flavor": "Google"})


class AzureIdentity(Server):
    """The managed identity endpoint of App Service."""

    header = "s3cret-header"

    def __init__(self) -> None:
        super().__init__()
        self.access_token = secrets.token_urlsafe(32)
        self.life = 3600

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Give an access token for a resource."""
        if asked.headers.get("x-identity-header") != self.header or "resource" not in asked.query:
            raise Refused(400, "BadRequest")
        return {
            "access_token": self.access_token,
            "expires_on": str(int(time.time()) + self.life),
            "resource": asked.query["resource"],
            "token_type": "Bearer",
        }
