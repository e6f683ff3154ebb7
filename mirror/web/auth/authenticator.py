"""The authentication of clients: by token, password, or certificate."""

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

from mirror.identity.address import one_client
from mirror.identity.client import ClientIdentity, is_client_name
from mirror.oci.errors import ClientTooFast, NotAllowed, RegistryError, Unauthorized, shown
from mirror.oci.patterns import Patterns
from mirror.web.auth.browsers import Browsers
from mirror.web.auth.htpasswd import Htpasswd
from mirror.web.auth.request_rate import RequestRates
from mirror.web.connections.certificate import peer

_TRIES = 20  # wrong logins allowed from one client's address, within
_TRIES_LAST = 60.0  # seconds
_ADDRESSES = 10_000  # with remembered tries
_LOOK = 1.0  # seconds between checks of the users' file for changes
_WATCHING = " watching"  # the ends of keys for separate counts: no name has a blank
_LOOKING = " looking"


@dataclass(frozen=True, slots=True)
class ConfiguredClient:
    """A configured client: its token, if it has one, and the repositories that it may read."""

    token: str = field(repr=False)
    allow: Patterns


class ClientLogin(NamedTuple):
    """The credentials of a request: a secret, and the name it is claimed for, if there is one."""

    name: str | None
    secret: str


class Authenticator:
    """The clients that can authenticate: the configured ones, and the users of a file.

    With `challenge`, a client without a login is asked for one; without it, the client may read the
    `anonymous` repositories, None for all. `refused` counts wrong logins.
    """

    def __init__(
        self,
        known: Mapping[str, ConfiguredClient],
        users: Htpasswd | None,
        rates: RequestRates,
        *,
        anonymous: Patterns | None,
        challenge: bool,
        browsers: Browsers,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allow = {name: each.allow for name, each in known.items()}
        # Keyed by hash, so that the time of a lookup reveals nothing about a token.
        self._tokens = {_hash(each.token): name for name, each in known.items() if each.token}
        self._users = users
        self._rates = rates
        self.browsers = browsers
        self._challenge = challenge
        # Whether unauthenticated clients are told nothing about the configuration.
        self._discreet = challenge or anonymous is not None
        self._unnamed = lru_cache(maxsize=8192)(partial(ClientIdentity, allow=anonymous))
        self._tries: TTLCache[str, int] = TTLCache(_ADDRESSES, _TRIES_LAST, timer)
        self.refused = 0

    def __repr__(self) -> str:
        return f"<Authenticator: {len(self._tokens)} tokens, {self._users}>"

    def change(self, anew: Authenticator) -> None:
        """Take over the configuration of `anew`; the counts of addresses stay.

        Passwords that were right lately stay known, under the hash that they were compared with.
        """
        self._allow, self._tokens = anew._allow, anew._tokens
        self._challenge, self._discreet = anew._challenge, anew._discreet
        self._unnamed = anew._unnamed
        if self._users is None or anew._users is None:
            self._users = anew._users
        else:
            self._users.change(anew._users)
        if anew._rates.client_rate != self._rates.client_rate:
            self._rates = anew._rates

    async def run(self) -> None:
        """Check the users' file for changes, if there is one; runs until cancelled."""
        while True:
            await asyncio.sleep(_LOOK)
            if self._users is not None:
                await self._users.renew()

    async def close(self) -> None:
        """Stop running password checks."""
        if self._users is not None:
            await self._users.close()

    def take(self, request: web.BaseRequest) -> None:
        """Count a request by its address, without authentication; raises ClientTooFast."""
        self.count(request.remote or "")

    def watch(self, request: web.BaseRequest) -> None:
        """Count a request for the metrics, separately from all others; raises ClientTooFast.

        A monitor must not be blinded by other clients behind its address.
        """
        self._rates.take(one_client(request.remote or "") + _WATCHING)

    def look(self, request: web.BaseRequest) -> None:
        """Count a request for the console by its address; raises ClientTooFast."""
        self._rates.take(one_client(request.remote or "") + _LOOKING)

    def trusts(self, identity: ClientIdentity) -> bool:
        """Whether a caller may be told the names in the configuration."""
        return identity.name is not None or not self._discreet

    async def identify(self, request: web.BaseRequest) -> ClientIdentity:
        """Return the caller of a request; raises Unauthorized, NotAllowed, or ClientTooFast.

        Each request counts once, and before it costs anything: by name if memory is enough to prove
        the name, by address otherwise.
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
            raise Unauthorized("this mirror requires a login")
        return self._unnamed(address)

    def anonymous(self, address: str) -> ClientIdentity | None:
        """Return the caller of a request without a login, from an address; it is not counted yet.

        None if the caller must log in, or is beyond its rate.
        """
        if self._challenge:
            return None
        if self._rates.client_rate and not self._rates.allows(one_client(address)):
            return None
        return self._unnamed(address)

    def count(self, address: str) -> None:
        """Count a request of an anonymous caller; raises ClientTooFast."""
        if self._rates.client_rate:
            self._rates.take(one_client(address))

    async def recognise(self, request: web.BaseRequest) -> ClientIdentity:
        """Return the caller of a request for the console, without a name if it sends no login.

        Its requests count separately from those to the registry API. Raises Unauthorized or
        NotAllowed for a wrong login, or ClientTooFast.
        """
        address = request.remote or ""
        client = one_client(address)
        login = self._login(request)
        if login is not None:
            return self._named(address, await self._by_login(client, login, _LOOKING))
        self._rates.take(client + _LOOKING)
        certified = peer(request.transport)
        name = certified if certified is not None and is_client_name(certified) else None
        return ClientIdentity(address, name)

    def _login(self, request: web.BaseRequest) -> ClientLogin | None:
        """Read the credentials of a request; None if there are none, or if no login is configured.

        Credentials count even without a challenge: a wrong password does not make an anonymous
        client. Without configured logins they are ignored, as dockerd may send its login of Docker
        Hub.
        """
        header = request.headers.get(hdrs.AUTHORIZATION)
        if header is None or not (self._tokens or self._users is not None):
            return None
        scheme, _, rest = header.partition(" ")
        if scheme.lower() == "bearer":
            return ClientLogin(None, rest.strip())
        return _basic(rest) if scheme.lower() == "basic" else ClientLogin("", "")

    def _named(self, address: str, name: str) -> ClientIdentity:
        return ClientIdentity(address, name, self._allow.get(name))

    def _by_certificate(self, client: str, name: str) -> str:
        right = is_client_name(name)
        self._rates.take(name if right else client)
        if right:
            return name
        found = f"it names {shown(name)}" if name else "it has no name"
        raise NotAllowed(
            f"this certificate is not a client's: {found}; a client's name must be the common "
            "name, or else the first DNS name or e-mail address of the subjectAltName"
        )

    async def _by_login(self, client: str, login: ClientLogin, purpose: str = "") -> str:
        name = self._at_once(login)
        self._rates.take((name or client) + purpose)
        if name is None and await self._try(client, login):
            name = login.name
        if name is None:
            self.refused += 1
            raise self._wrong()
        return name

    def _at_once(self, login: ClientLogin) -> str | None:
        """Return the name that a token, or a password that was right lately, proves; else None."""
        name = self._tokens.get(_hash(login.secret))
        if name is not None and login.name in (None, name):
            return name
        return login.name if self._remembered(login) else None

    def _remembered(self, login: ClientLogin) -> bool | None:
        """Return the latest result for a user and password, None if there is none."""
        if self._users is None or not login.name:
            return None
        return self._users.remembers(login.name, login.secret)

    async def _try(self, client: str, login: ClientLogin) -> bool:
        """Check a login that is not remembered; raises ClientTooFast after too many wrong ones.

        Running checks count: a thousand at once are no better than a thousand in a row. A login
        known to be wrong counts once: to repeat it is not another guess.
        """
        if self._remembered(login) is False:
            return False
        tries = self._tries.get(client, 0)
        if tries >= _TRIES:
            raise ClientTooFast("too many wrong logins", retry_after=math.ceil(_TRIES_LAST))
        self._tries[client] = tries + 1
        try:
            right = await self._check(login)
        except ClientTooFast:  # it was not checked
            self._forgive(client)
            raise
        if right:
            self._forgive(client)
        return right

    async def _check(self, login: ClientLogin) -> bool:
        if self._users is None or not login.name:
            return False
        return await self._users.check(login.name, login.secret)

    def _forgive(self, client: str) -> None:
        self._tries[client] = max(0, self._tries.get(client, 0) - 1)

    def _wrong(self) -> RegistryError:
        message = "wrong login: log in as a user of htpasswd, or with the token of a client"
        return Unauthorized(message) if self._challenge else NotAllowed(message)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _basic(credentials: str) -> ClientLogin:
    """Decode name and password (RFC 7617, 2); both are empty if they cannot be decoded."""
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, UnicodeError):
        return ClientLogin("", "")
    name, _, password = text.partition(":")
    return ClientLogin(name, password)
