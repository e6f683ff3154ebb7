"""Clients: who asks, by what they show: a token, a password, or a certificate."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import NamedTuple

from aiohttp import hdrs, web
from cachetools import TTLCache

from mirror.cache.address import one_client
from mirror.cache.caller import Caller, is_client_name
from mirror.oci.errors import ClientTooFast, NotAllowed, RegistryError, Unauthorized, shown
from mirror.oci.patterns import Patterns
from mirror.web.browsers import Browsers
from mirror.web.htpasswd import Htpasswd
from mirror.web.rate import Rates
from mirror.web.tls import peer

_TRIES = 20  # logins that may turn out wrong, of one client's address, within
_TRIES_LAST = 60.0  # seconds
_ADDRESSES = 10_000  # whose tries are remembered
_LOOK = 1.0  # seconds between looks whether the file of users has changed


@dataclass(frozen=True, slots=True)
class Known:
    """What is configured of a client: its token, if it has one, and what it may read."""

    token: str = field(repr=False)
    allow: Patterns


class Login(NamedTuple):
    """What somebody shows: a secret, and the name that is said to go with it, if one is."""

    name: str | None
    secret: str


class Clients:
    """Everybody who can prove a name: those that are configured, and the users of a file.

    With `challenge` those who prove none are asked to; without it they may read what is
    `anonymous`, None for all. `refused` counts wrong logins.
    """

    def __init__(
        self,
        known: Mapping[str, Known],
        users: Htpasswd | None,
        rates: Rates,
        *,
        anonymous: Patterns | None,
        challenge: bool,
        browsers: Browsers,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allow = {name: each.allow for name, each in known.items()}
        # Hashes are looked up, so that the time that takes tells nothing of a token.
        self._tokens = {_hash(each.token): name for name, each in known.items() if each.token}
        self._users = users
        self._rates = rates
        self.browsers = browsers
        self._challenge = challenge
        # Who may be told how the mirror is configured: everybody, unless some are told apart.
        self._discreet = challenge or anonymous is not None
        self._unnamed = lru_cache(maxsize=8192)(partial(Caller, allow=anonymous))
        self._tries: TTLCache[str, int] = TTLCache(_ADDRESSES, _TRIES_LAST, timer)
        self.refused = 0

    def __repr__(self) -> str:
        return f"<Clients: {len(self._tokens)} tokens, {self._users}>"

    def change(self, anew: Clients) -> None:
        """Have what is configured be that of `anew`; what is known of addresses stays.

        So do passwords that were right of late, under the hash that they were compared with.
        """
        self._allow, self._tokens = anew._allow, anew._tokens
        self._challenge, self._discreet = anew._challenge, anew._discreet
        self._unnamed = anew._unnamed
        if self._users is None or anew._users is None:
            self._users = anew._users
        else:
            self._users.change(anew._users)
        if anew._rates.rate != self._rates.rate:
            self._rates = anew._rates

    async def run(self) -> None:
        """Follow the file of users, if there is one, for ever; to be cancelled."""
        while True:
            await asyncio.sleep(_LOOK)
            if self._users is not None:
                await self._users.renew()

    async def close(self) -> None:
        """Stop what runs."""
        if self._users is not None:
            await self._users.close()

    def take(self, request: web.BaseRequest) -> None:
        """Count a request whose sender does not matter; raises ClientTooFast."""
        self._rates.take(one_client(request.remote or ""))

    def watch(self, request: web.BaseRequest) -> None:
        """Count a look at the metrics, apart from all else; raises ClientTooFast.

        A crowd behind the address of what watches must not blind it.
        """
        self._rates.take(f"{one_client(request.remote or '')} watching")  # no name has a blank

    def trusts(self, caller: Caller) -> bool:
        """Whether a caller may be told the names of what is configured."""
        return caller.name is not None or not self._discreet

    async def who(self, request: web.BaseRequest) -> Caller:
        """Return who asks; raises Unauthorized, NotAllowed, or ClientTooFast.

        Each request counts once, and before it costs anything: by name where a look into memory
        proves one, by address otherwise.
        """
        address = request.remote or ""
        client = one_client(address)
        login = self._login(request)
        if login is not None:
            return self._named(address, await self._by_login(client, login))
        certified = peer(request.transport)
        if certified is not None:
            return self._named(address, self._by_certificate(client, certified))
        self._rates.take(client)
        if self._challenge:
            raise Unauthorized("this mirror wants a login")
        return self._unnamed(address)

    def _login(self, request: web.BaseRequest) -> Login | None:
        """Read what is shown.

        It is checked though nobody asked for it: a wrong password is no anonymous client. Where no
        login is configured it is not looked at, as dockerd may send that of Docker Hub.
        """
        header = request.headers.get(hdrs.AUTHORIZATION)
        if header is None or not (self._tokens or self._users is not None):
            return None
        scheme, _, rest = header.partition(" ")
        if scheme.lower() == "bearer":
            return Login(None, rest.strip())
        return _basic(rest) if scheme.lower() == "basic" else Login("", "")

    def _named(self, address: str, name: str) -> Caller:
        return Caller(address, name, self._allow.get(name))

    def _by_certificate(self, client: str, name: str) -> str:
        right = is_client_name(name)
        self._rates.take(name if right else client)
        if right:
            return name
        found = f"it names {shown(name)}" if name else "it names nobody"
        raise NotAllowed(
            f"this certificate is no client's: {found}; a client's name is wanted as its common "
            "name, or else as the first DNS name or e-mail address of its subjectAltName"
        )

    async def _by_login(self, client: str, login: Login) -> str:
        name = self._at_once(login)
        self._rates.take(name or client)
        if name is None and await self._try(client, login):
            name = login.name
        if name is None:
            self.refused += 1
            raise self._wrong()
        return name

    def _at_once(self, login: Login) -> str | None:
        """Return whose login it is, if it is a token, or a password that was right lately."""
        name = self._tokens.get(_hash(login.secret))
        if name is not None and login.name in (None, name):
            return name
        return login.name if self._remembered(login) else None

    def _remembered(self, login: Login) -> bool | None:
        """Return what was found of a user and password lately, None if nothing was."""
        if self._users is None or not login.name:
            return None
        return self._users.remembers(login.name, login.secret)

    async def _try(self, client: str, login: Login) -> bool:
        """Check what is not known, if this client has not been wrong too often of late.

        Those that are being checked count: a thousand at once are no better than in a row. What is
        known to be wrong counts once: to say it again is no other guess.
        """
        if self._remembered(login) is False:
            return False
        tries = self._tries.get(client, 0)
        if tries >= _TRIES:
            raise ClientTooFast("too many wrong logins", retry_after=math.ceil(_TRIES_LAST))
        self._tries[client] = tries + 1
        try:
            right = await self._check(login)
        except ClientTooFast:  # it was not looked at
            self._forgive(client)
            raise
        if right:
            self._forgive(client)
        return right

    async def _check(self, login: Login) -> bool:
        if self._users is None or not login.name:
            return False
        return await self._users.check(login.name, login.secret)

    def _forgive(self, client: str) -> None:
        self._tries[client] = max(0, self._tries.get(client, 0) - 1)

    def _wrong(self) -> RegistryError:
        message = "this login is wrong: a user of htpasswd, or the token of a client is wanted"
        return Unauthorized(message) if self._challenge else NotAllowed(message)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _basic(credentials: str) -> Login:
    """Read name and password (RFC 7617, 2); both empty where they cannot be read."""
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, UnicodeError):
        return Login("", "")
    name, _, password = text.partition(":")
    return Login(name, password)
