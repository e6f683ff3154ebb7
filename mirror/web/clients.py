"""Clients: who asks, by what they show: a token, a password, or a certificate."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import hdrs, web
from cachetools import TTLCache

from mirror.cache.caller import Caller, is_client_name
from mirror.oci.errors import ClientTooFast, NotAllowed, RegistryError, Unauthorized
from mirror.oci.patterns import Patterns
from mirror.web.htpasswd import Htpasswd
from mirror.web.rate import Rates
from mirror.web.tls import peer

_TRIES = 20  # passwords that may turn out wrong, of one address, within
_TRIES_LAST = 60.0  # seconds
_ADDRESSES = 10_000  # whose tries are remembered


@dataclass(frozen=True, slots=True)
class Known:
    """What is configured of a client: its token, if it has one, and what it may read."""

    token: str
    allow: Patterns


class Clients:
    """Everybody who can prove a name: those that are configured, and the users of a file.

    With `challenge` those who prove none are asked to. `refused` counts wrong logins.
    """

    def __init__(
        self,
        known: Mapping[str, Known],
        users: Htpasswd | None,
        rates: Rates,
        *,
        challenge: bool,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allow = {name: each.allow for name, each in known.items()}
        # Hashes are looked up, so that the time that takes tells nothing of a token.
        self._tokens = {_hash(each.token): name for name, each in known.items() if each.token}
        self._users = users
        self._rates = rates
        self._challenge = challenge
        self._tries: TTLCache[str, int] = TTLCache(_ADDRESSES, _TRIES_LAST, timer)
        self.refused = 0

    def __repr__(self) -> str:
        return f"<Clients: {len(self._tokens)} tokens, {self._users}>"

    async def who(self, request: web.BaseRequest) -> Caller:
        """Return who asks; raises Unauthorized, NotAllowed, or ClientTooFast."""
        caller = await self._prove(request)
        self._rates.take(caller.party)
        return caller

    async def _prove(self, request: web.BaseRequest) -> Caller:
        """Find out who asks.

        What is shown unasked is checked all the same: a wrong password is no anonymous client.
        Where no login is configured it is not looked at, as dockerd may send that of Docker Hub.
        """
        address = request.remote or ""
        shown = request.headers.get(hdrs.AUTHORIZATION)
        if shown is not None and (self._tokens or self._users is not None):
            return self._named(address, await self._login(address, shown))
        if name := peer(request.transport):
            if not is_client_name(name):
                raise NotAllowed("the common name of the certificate is none of a client's")
            return self._named(address, name)
        if self._challenge:
            raise Unauthorized("this mirror wants a login")
        return Caller(address)

    def _named(self, address: str, name: str) -> Caller:
        return Caller(address, name, self._allow.get(name))

    async def _login(self, address: str, shown: str) -> str:
        scheme, _, rest = shown.partition(" ")
        name: str | None = None
        if scheme.lower() == "bearer":
            name = self._tokens.get(_hash(rest.strip()))
        elif scheme.lower() == "basic":
            name = await self._by_password(address, *_basic(rest))
        if name is None:
            self.refused += 1
            raise self._wrong()
        return name

    async def _by_password(self, address: str, name: str, password: str) -> str | None:
        if self._tokens.get(_hash(password)) == name:
            return name
        if self._users is None or not name:
            return None
        found = self._users.remembers(name, password)
        if found is None:
            found = await self._try(self._users, address, name, password)
        return name if found else None

    async def _try(self, users: Htpasswd, address: str, name: str, password: str) -> bool:
        """Check what is not known, if this address has not been wrong too often of late.

        Those that are being checked count: a thousand at once are no better than in a row.
        """
        tries = self._tries.get(address, 0)
        if tries >= _TRIES:
            raise ClientTooFast("too many wrong logins", retry_after=math.ceil(_TRIES_LAST))
        self._tries[address] = tries + 1
        right = await users.check(name, password)
        if right:
            self._tries[address] = max(0, self._tries.get(address, 0) - 1)
        return right

    def _wrong(self) -> RegistryError:
        message = "this login is wrong: a user of htpasswd, or the token of a client is wanted"
        return Unauthorized(message) if self._challenge else NotAllowed(message)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _basic(credentials: str) -> tuple[str, str]:
    """Read name and password (RFC 7617, 2); both empty where they cannot be read."""
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, UnicodeError):
        return "", ""
    name, _, password = text.partition(":")
    return name, password
