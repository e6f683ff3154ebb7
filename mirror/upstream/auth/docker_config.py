"""Docker's config.json: which credentials it has for a registry, in whichever of its shapes.

docker/cli's cli/config, containers-auth.json(5) and Kubernetes' `.dockerconfigjson` are the shapes;
where they differ, the first entry wins that one of them would find.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mirror.oci.errors import shown
from mirror.oci.names import HUB, HUB_ALIASES
from mirror.rights import unreadable
from mirror.upstream.auth import helper
from mirror.upstream.auth.credentials import (
    ANONYMOUS,
    Credentials,
    CredentialsUnavailable,
    Found,
    Kind,
)

_log = logging.getLogger(__name__)

_HUB_KEY = "https://index.docker.io/v1/"
_API_PATHS = frozenset({"", "v1", "v2"})  # not a part of a repository's name, as podman's keys have
_TOKENS: Mapping[str, Kind] = {"registrytoken": "registry", "identitytoken": "refresh"}
_STANDARD = str.maketrans("-_", "+/")
_LIFE = 300.0  # seconds, after which the file is read, and a helper asked, again
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Faulty:
    """An entry that cannot be used: the table it is in, its key, and why, without its content.

    Without a key it is about all registries.
    """

    table: str
    key: str
    why: str

    def __str__(self) -> str:
        key = f" {shown(self.key.rpartition('@')[2])}" if self.key else ""
        return f"has {self.table}{key}, which {self.why}"


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """What a config.json says: accounts by host or `host/path`, and helpers by host.

    `faults` are the entries that cannot be used. They are left out, so that one of another registry
    is no reason to do without this one.
    """

    auths: Mapping[str, Credentials] = field(default_factory=dict)
    helpers: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # suffix, the key as it is
    store: str = ""  # the helper of all other hosts
    faults: Sequence[Faulty] = ()

    def place(self, hosts: Sequence[str], repository: str) -> str:
        """Return the longest path of a repository that has an account of its own; "" for none."""
        parts = repository.split("/")
        for length in range(len(parts), 0, -1):
            path = "/".join(parts[:length])
            if any(f"{host}/{path}" in self.auths for host in hosts):
                return path
        return ""

    def account(self, hosts: Sequence[str], place: str) -> Credentials | None:
        """Return the account of a place, None if there is none."""
        suffix = f"/{place}" if place else ""
        found = (self.auths.get(host + suffix) for host in hosts)
        return next((each for each in found if each is not None), None)

    def questions(self, hosts: Sequence[str]) -> list[tuple[str, str]]:
        """Return which helpers to ask, in turn, and for which server."""
        others = ((host, (self.store, _HUB_KEY if host == HUB else host)) for host in hosts)
        asked = (self.helpers.get(host, other) for host, other in others)
        return [(suffix, server) for suffix, server in asked if suffix]

    def check(self, hosts: Sequence[str]) -> None:
        """Refuse an entry that a registry's account should be in; raises ValueError.

        An entry is no loss to a registry that has another one.
        """
        if self.account(hosts, "") is None:
            for fault in self.faults:
                if not fault.key or _name(fault.key) in hosts:
                    raise ValueError(str(fault))


def parse(text: str) -> DockerConfig:
    """Read a config.json; raises ValueError, whose message has nothing of the content."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("is not an object")  # noqa: TRY004 - of what is in it
    faults: list[Faulty] = []
    table = document if _is_old(document) else _table(document, "auths")
    auths = _read(table, "auths", _account, faults)
    accounts: dict[str, Credentials] = {}
    # A key that is a plain name beats an old one that means the same.
    for key in sorted(auths, key=lambda key: _name(key) != key):
        accounts.setdefault(_name(key), auths[key])
    helpers = _read(_table(document, "credHelpers"), "credHelpers", _suffix, faults)
    named = {_name(key): (suffix, _server(key)) for key, suffix in helpers.items()}
    store = _read({"": document.get("credsStore")}, "credsStore", _suffix, faults)
    return DockerConfig(accounts, named, store.get("", ""), tuple(faults))


def _is_old(document: Mapping[str, Any]) -> bool:
    """Tell a `.dockercfg`, which is a table of accounts and nothing else; Kubernetes takes it."""
    entries = [entry for entry in document.values() if isinstance(entry, dict)]
    return "auths" not in document and any("auth" in entry for entry in entries)


def _table(document: dict[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name) or {}
    if not isinstance(table, dict):
        raise ValueError(f"has {name} that are not an object")  # noqa: TRY004
    return table


def _read(
    table: Mapping[str, object],
    name: str,
    read: Callable[[object], T | None],
    faults: list[Faulty],
) -> dict[str, T]:
    """Read the entries of a table; what cannot be read goes to `faults`."""
    found: dict[str, T] = {}
    for key, value in table.items():
        try:
            if (entry := read(value)) is not None:
                found[key] = entry
        except ValueError as error:
            faults.append(Faulty(name, key, str(error)))
    return found


def _name(key: str) -> str:
    """Return a key's host, `docker.io` for the hub's; with the path that podman's keys have."""
    _, scheme, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    host = HUB_ALIASES.get(host, host)
    path = path.strip("/")
    return host if scheme or path in _API_PATHS else f"{host}/{path}"


def _suffix(value: object) -> str:
    """Read what a helper is called; nothing means the file itself."""
    suffix = value or ""
    if not isinstance(suffix, str) or (suffix and not helper.SUFFIX.fullmatch(suffix)):
        raise ValueError("names a credential helper that cannot be one")
    return suffix


def _server(key: str) -> str:
    return _HUB_KEY if _name(key) == HUB else key


def _account(entry: object) -> Credentials | None:
    """Read an entry; None if it has nothing, as one whose account is with a helper."""
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise ValueError("is not an object")  # noqa: TRY004
    username, password = _decode(entry.get("auth"))
    if not username or not password:
        username = username or entry.get("username")
        password = entry.get("password")
    username = username if isinstance(username, str) else ""
    for name, kind in _TOKENS.items():
        if (token := entry.get(name)) and isinstance(token, str):
            return Credentials(username or helper.IDENTITY, token, kind)
    if username and isinstance(password, str) and password:
        return Credentials(username, password)
    return None


def _decode(auth: object) -> tuple[Any, Any]:
    """Read base64 of `user:password`, which Go pads with zero bytes; nothing without a colon.

    What writes this file leaves the padding out, breaks lines, or uses the alphabet of URLs (RFC
    4648, 5); what reads it takes one or the other. What is left out says nothing else.
    """
    if not isinstance(auth, str) or not (text := "".join(auth.split()).rstrip("=")):
        return None, None
    text = text.translate(_STANDARD) + "=" * (-len(text) % 4)
    try:
        username, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise ValueError("has an auth that is not base64 of a user and a password") from None
    return (username, password.strip("\0")) if colon else (None, None)


class DockerConfigFile:
    """The credentials that a config.json has for one registry: `hosts` are its names there."""

    def __init__(self, file: Path, hosts: Sequence[str]) -> None:
        self._file = file
        self._hosts = tuple(dict.fromkeys(HUB_ALIASES.get(host, host) for host in hosts))
        self._warned: set[str] = set()
        self._config = self._load()

    def place(self, repository: str) -> str:
        """Return the path within the registry that has an account of its own."""
        return self._config.place(self._hosts, repository)

    async def read(self, place: str) -> Found:
        """Read the file again, ask the helper if there is one; anonymous if neither has any.

        Raises CredentialsUnavailable.
        """
        try:
            self._config = self._load()
        except ValueError as error:
            raise CredentialsUnavailable(str(error)) from None
        # The place's own account may be gone by now: then it is part of a larger one.
        place = self._config.place(self._hosts, place)
        account = self._config.account(self._hosts, place)
        source = f"docker_config {self._file}"
        try:
            if helped := await self._helped():
                account, name = helped
                source = f"docker-credential-{name}, which {source} names"
        except helper.HelperMissing as error:
            if account is None:
                raise
            self._warn(f"has an account, which is used: {error}")
        return Found(account or self._nobody(), _LIFE, source)

    def _nobody(self) -> Credentials:
        """Go on anonymously, as docker does; not where an account is there, if it cannot be read.

        Raises CredentialsUnavailable.
        """
        try:
            self._config.check(self._hosts)
        except ValueError as error:
            raise CredentialsUnavailable(f"docker_config {self._file} {error}") from None
        self._warn(f"has no account for {' or '.join(self._hosts)}")
        return ANONYMOUS

    async def _helped(self) -> tuple[Credentials, str] | None:
        """Return the account that a helper has, and the helper's name."""
        for suffix, server in self._config.questions(self._hosts):
            if (account := await helper.ask(suffix, server)) is not None:
                return account, suffix
        return None

    def _load(self) -> DockerConfig:
        """Read the file; raises ValueError."""
        try:
            config = parse(self._file.read_text("utf-8-sig"))  # Windows' editors begin with a mark
            if not config.questions(self._hosts):  # else a helper may have the account
                config.check(self._hosts)
        except OSError as error:
            raise ValueError(
                f"docker_config {self._file} cannot be read: {unreadable(error)}"
            ) from None
        except UnicodeDecodeError:
            raise ValueError(f"docker_config {self._file} cannot be read: not UTF-8") from None
        except ValueError as error:
            raise ValueError(f"docker_config {self._file} {error}") from None
        for fault in config.faults:
            self._warn(f"{fault}: it is left out")
        return config

    def _warn(self, words: str) -> None:
        """Say once what is wrong with the file."""
        if words not in self._warned:
            self._warned.add(words)
            _log.warning("%s %s", self._file, words)
