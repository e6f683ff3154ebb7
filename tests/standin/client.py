"""A plain registry client for the tests of the stand-in; each pull has a fresh token."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from aiohttp import ClientSession, encode_basic_auth
from yarl import URL

from .hub import Hub

AGENT = "standin-client/1"
PASSWORD = "secret"
KINDS = re.compile("/(?:manifests|blobs|tags|referrers)/")


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Pulls from a hub. Every user's password is PASSWORD."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._session = ClientSession(headers={"User-Agent": AGENT}, auto_decompress=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request, and follow no redirect."""
        request = self._session.request(
            method, URL(url, encoded=True), headers=headers, allow_redirects=False
        )
        async with request as response:
            return Reply(response.status, response.headers, await response.read())

    async def token(self, repository: str, user: str = "") -> Reply:
        """Get a token to pull."""
        headers = {"Authorization": encode_basic_auth(user, PASSWORD)} if user else {}
        scope = f"service=registry.docker.io&scope=repository:{repository}:pull"
        return await self.ask("GET", f"{self._hub.realm}?{scope}", headers)

    async def bearer(self, repository: str, user: str = "") -> dict[str, str]:
        """Return the header with a fresh token."""
        token = json.loads((await self.token(repository, user)).body)["token"]
        return {"Authorization": f"Bearer {token}"}

    async def pull(
        self, path: str, method: str = "GET", user: str = "", part: str | None = None
    ) -> Reply:
        """Get /v2/PATH, or a range of it, and follow one redirect without the token."""
        bearer = await self.bearer(KINDS.split(path)[0], user)
        wanted = {"Range": part} if part else {}
        reply = await self.ask(method, f"{self._hub.url}/v2/{path}", bearer | wanted)
        if reply.status != 307:
            return reply
        return await self.ask(method, reply.headers["Location"], wanted)
