"""The base of a flavour: a server that records its requests, and issues a hub's tokens."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from aiohttp import web

from tests.standin.hub import Hub
from tests.standin.tokens import repositories


@dataclass(frozen=True)
class Asked:
    """One request: headers by lower-case name, `query` and `form` with the last of each field."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    body: bytes

    @property
    def basic(self) -> tuple[str, str] | None:
        """The user and password of the Basic login."""
        scheme, _, encoded = self.headers.get("authorization", "").partition(" ")
        if scheme != "Basic":
            return None
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return user, password


class Refused(Exception):
    """The server refuses a request."""

    def __init__(self, status: int = 401, code: str = "UNAUTHORIZED") -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


class Server:
    """A server of one port on loopback, which answers JSON and records its requests."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._runner: web.AppRunner | None = None
        self.asked: list[Asked] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, 0).start()
        self.url = f"http://{self._host}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner:
            await self._runner.cleanup()

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Return the document of the answer; raises Refused."""
        raise NotImplementedError

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        forms = ("application/x-www-form-urlencoded", "multipart/form-data")
        form = dict(await request.post()) if request.content_type in forms else {}
        headers = {name.lower(): value for name, value in request.headers.items()}
        texts = {name: str(value) for name, value in form.items()}
        asked = Asked(request.method, request.path, headers, dict(request.query), texts, body)
        self.asked.append(asked)
        try:
            return self.sent(self.answer(asked))
        except Refused as refused:
            entry = {"code": refused.code, "message": str(refused), "detail": None}
            return web.json_response({"errors": [entry]}, status=refused.status)

    def sent(self, document: dict[str, Any]) -> web.Response:
        """Return the response of a document."""
        return web.json_response(document)


class Flavour(Server):
    """A token server. While it runs, the hub names it in challenges and accepts its tokens.

    `users` are passwords by name.
    """

    path: ClassVar[str] = "/token"
    service: ClassVar[str] = "registry"

    def __init__(
        self, hub: Hub, users: Mapping[str, str] | None = None, host: str = "127.0.0.1"
    ) -> None:
        super().__init__(host)
        self.hub = hub
        self.users = dict(users or {})

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.hub.terms.realm = self.url + self.path
        self.hub.terms.service = self.service
        return self

    def login(self, asked: Asked, refused: Refused | None = None) -> str | None:
        """Return the user of the Basic login, None if there is none; raises Refused."""
        if "authorization" not in asked.headers:
            return None
        user, password = asked.basic or ("", "")
        if self.users.get(user) != password:
            raise refused or Refused()
        return user

    def token(self, user: str | None, fields: Mapping[str, str], token: str | None = None) -> str:
        """Make a token for the scope in the fields of a query or form; raises Refused."""
        if fields.get("service") != self.service:
            raise Refused(400, "UNKNOWN")
        scope = urlencode({"scope": fields.get("scope", "")})
        return str(self.hub.tokens.issue(user, repositories(scope), token)["token"])

    def asks(self, method: str, path: str | None = None) -> int:
        """Count the requests of this method and path."""
        path = path or self.path
        return sum(each.method == method and each.path == path for each in self.asked)


def jwt(**claims: object) -> str:
    """Make a unique, unsigned JWT."""
    parts: tuple[dict[str, object], ...] = ({"alg": "none", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*(part.rstrip("=") for part in encoded), secrets.token_urlsafe(64)])
