"""Asking: one question in the manner of Go's clients, with redirects and a login."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from tests.differential.content import ARTIFACT, ORAS, SCHEMA1, SIGNED
from tests.standin.images import DOCKER, OCI

_TYPES = (OCI.index, DOCKER.index, OCI.manifest, DOCKER.manifest, ARTIFACT, ORAS, SIGNED, SCHEMA1)
ACCEPT = ", ".join(_TYPES)
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST = 10  # redirects, as in net/http
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def good(self) -> bool:
        """Whether it is a success: containerd takes any status below 300."""
        return 200 <= self.status < 300


class Asking:
    """Questions to one registry, by a client with an account there or (None) without.

    The client learns of the login at `/v2/`, as engines do, from any answer there, and asks the
    token server for the scope of the question. `patience` is for an answer, in seconds; `again`
    tells that only the second try for a token succeeded.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: str,
        account: tuple[str, str] | None = None,
        patience: float = 10.0,
    ) -> None:
        self._session = session
        self._base = base.rstrip("/")
        self._account = account
        self._timeout = aiohttp.ClientTimeout(total=None, sock_read=patience)
        self._challenge: dict[str, str] | None = None
        self.again = False
        self._tokens: dict[str, str] = {}

    async def greet(self) -> None:
        """Ask for `/v2/`, to learn of the login."""
        reply = await self._send("GET", f"{self._base}/v2/", {})
        self._learn(reply)

    async def ask(
        self, repository: str, path: str, method: str = "GET", accept: str = ""
    ) -> Reply | None:
        """Ask for a path of a repository; None without a whole answer."""
        url = f"{self._base}/v2/{repository}/{path}"
        headers = {"Accept": accept} if accept else {}
        token = await self._token(repository)
        reply = await self._send(method, url, headers, token)
        if reply is not None and reply.status == 401 and not token and self._learn(reply):
            token = await self._token(repository)
            reply = await self._send(method, url, headers, token)
        return reply

    def _learn(self, reply: Reply | None) -> bool:
        told = reply.headers.get("WWW-Authenticate", "") if reply and reply.status == 401 else ""
        if not told.lower().startswith("bearer "):
            return False
        self._challenge = dict(_PARAMETER.findall(told))
        return "realm" in self._challenge

    async def _token(self, repository: str) -> str:
        """Return a token for a repository, or "" if none is needed or granted."""
        if self._challenge is None or "realm" not in self._challenge:
            return ""
        if repository not in self._tokens:
            token = await self._granted(self._challenge, repository)
            if token is None:
                self.again = True
                token = await self._granted(self._challenge, repository)
            self._tokens[repository] = token or ""
        return self._tokens[repository]

    async def _granted(self, challenge: dict[str, str], repository: str) -> str | None:
        """Ask for a token; None if a second try may help."""
        scope = f"scope=repository:{repository}:pull"
        url = f"{challenge['realm']}?service={challenge.get('service', '')}&{scope}"
        headers = {}
        if self._account:
            both = ":".join(self._account).encode()
            headers["Authorization"] = f"Basic {base64.b64encode(both).decode()}"
        reply = await self._send("GET", url, headers)
        if reply is None or reply.status >= 500:
            return None
        try:
            told = json.loads(reply.body) if reply.good else {}
            return str(told.get("token") or told.get("access_token") or "")
        except (ValueError, AttributeError):
            return ""

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], token: str = ""
    ) -> Reply | None:
        """Ask and follow redirects; the token stays with its origin."""
        told = CIMultiDict(headers)
        if token:
            told["Authorization"] = f"Bearer {token}"
        at = URL(url, encoded=True)
        for _ in range(_MOST):
            try:
                reply = await self._exchange(method, at, told)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                return None
            to = reply.headers.get("Location")
            if reply.status not in _REDIRECTS or not to:
                return reply
            target = at.join(URL(to.replace(" ", "%20"), encoded=True))
            if target.origin() != at.origin():
                told.popall("Authorization", None)
            at = target
        return None

    async def _exchange(self, method: str, url: URL, headers: Mapping[str, str]) -> Reply:
        asking = self._session.request(
            method, url, headers=headers, allow_redirects=False, timeout=self._timeout
        )
        async with asking as response:
            return Reply(response.status, response.headers.copy(), await response.read())
