"""Docker's config.json: its credentials for a registry, in any of its formats.

The formats are those of docker/cli's cli/config, containers-auth.json(5) and Kubernetes'
`.dockerconfigjson`; if they disagree, the first entry that one of them would find wins.
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
from mirror.upstream.auth import credential_helper
from mirror.upstream.auth.credentials import (
    ANONYMOUS,
    Credentials,
    CredentialsUnavailable,
    FoundCredentials,
    Kind,
)
from mirror.util.permissions import explain_unreadable

_log = logging.getLogger(__name__)

_HUB_KEY = "https://index.docker.io/v1/"
_API_PATHS = frozenset({"", "v1", "v2"})  # API paths, unlike the repository paths in podman's keys
_TOKENS: Mapping[str, Kind] = {"registrytoken": "registry", "identitytoken": "refresh"}
_STANDARD = str.maketrans("-_", "+/")
_LIFE = 300.0  # seconds until the file is read, and a helper run, again
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InvalidEntry:
    """An invalid entry: its table, its key, and the reason, without its content.

    Without a key it concerns all registries.
    """

    table: str
    key: str
    why: str

    def __str__(self) -> str:
        key = f" {shown(self.key.rpartition('@')[2])}" if self.key else ""
        return f"has {self.table}{key}, which {self.why}"


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """A parsed config.json: accounts by host or `host/path`, and helpers by host.

    `faults` are the invalid entries. They are ignored, so that a fault of one registry does not
    concern another.
    """

    auths: Mapping[str, Credentials] = field(default_factory=dict)
    helpers: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # suffix, original key
    store: str = ""  # the helper for all other hosts
    faults: Sequence[InvalidEntry] = ()

    def path(self, hosts: Sequence[str], repository: str) -> str:
        """Return the longest path of a repository that has a separate account; "" for none."""
        parts = repository.split("/")
        for length in range(len(parts), 0, -1):
            path = "/".join(parts[:length])
            if any(f"{host}/{path}" in self.auths for host in hosts):
                return path
        return ""

    def account(self, hosts: Sequence[str], path: str) -> Credentials | None:
        """Return the account of a place; None if there is none."""
        suffix = f"/{path}" if path else ""
        found = (self.auths.get(host + suffix) for host in hosts)
        return next((each for each in found if each is not None), None)

    def helper_calls(self, hosts: Sequence[str]) -> list[tuple[str, str]]:
        """Return the helpers to run, in order, each with its server."""
        others = ((host, (self.store, _HUB_KEY if host == HUB else host)) for host in hosts)
        asked = (self.helpers.get(host, other) for host, other in others)
        return [(suffix, server) for suffix, server in asked if suffix]

    def check(self, hosts: Sequence[str]) -> None:
        """Refuse an invalid entry that should hold a registry's account; raises ValueError.

        An invalid entry is harmless to a registry with another, valid one.
        """
        if self.account(hosts, "") is None:
            for fault in self.faults:
                if not fault.key or _name(fault.key) in hosts:
                    raise ValueError(str(fault))


def parse(text: str) -> DockerConfig:
    """Parse a config.json; raises ValueError, with no part of the content in its message."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("is not an object")  # noqa: TRY004 - the content's fault
    faults: list[InvalidEntry] = []
    table = document if _is_old(document) else _table(document, "auths")
    auths = _read(table, "auths", _account, faults)
    accounts: dict[str, Credentials] = {}
    # A key that is a plain host takes precedence over an equivalent URL key.
    for key in sorted(auths, key=lambda key: _name(key) != key):
        accounts.setdefault(_name(key), auths[key])
    helpers = _read(_table(document, "credHelpers"), "credHelpers", _suffix, faults)
    named = {_name(key): (suffix, _server(key)) for key, suffix in helpers.items()}
    store = _read({"": document.get("credsStore")}, "credsStore", _suffix, faults)
    return DockerConfig(accounts, named, store.get("", ""), tuple(faults))


def _is_old(document: Mapping[str, Any]) -> bool:
    """Whether this is a `.dockercfg`, a bare table of accounts; Kubernetes accepts it."""
    entries = [entry for entry in document.values() if isinstance(entry, dict)]
    return "auths" not in document and any("auth" in entry for entry in entries)


def _table(document: dict[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name) or {}
    if not isinstance(table, dict):
        raise ValueError(f"has {name} that is not an object")  # noqa: TRY004
    return table


def _read(
    table: Mapping[str, object],
    name: str,
    read: Callable[[object], T | None],
    faults: list[InvalidEntry],
) -> dict[str, T]:
    """Parse the entries of a table; invalid ones go to `faults`."""
    found: dict[str, T] = {}
    for key, value in table.items():
        try:
            if (entry := read(value)) is not None:
                found[key] = entry
        except ValueError as error:
            faults.append(InvalidEntry(name, key, str(error)))
    return found


def _name(key: str) -> str:
    """Return a key's host, `docker.io` for Docker Hub's, with the path that podman's keys have."""
    _, scheme, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    host = HUB_ALIASES.get(host, host)
    path = path.strip("/")
    return host if scheme or path in _API_PATHS else f"{host}/{path}"


def _suffix(value: object) -> str:
    """Parse a helper's name; empty means the file itself."""
    suffix = value or ""
    if not isinstance(suffix, str) or (suffix and not credential_helper.SUFFIX.fullmatch(suffix)):
        raise ValueError("has an invalid credential helper name")
    return suffix


def _server(key: str) -> str:
    return _HUB_KEY if _name(key) == HUB else key


def _account(entry: object) -> Credentials | None:
    """Parse an entry; None if it is empty, as for an account that is in a helper."""
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
            return Credentials(username or credential_helper.IDENTITY_USER, token, kind)
    if username and isinstance(password, str) and password:
        return Credentials(username, password)
    return None


def _decode(auth: object) -> tuple[Any, Any]:
    """Decode base64 of `user:password`, which Go pads with zero bytes; nothing without a colon.

    Programs that write this file omit the padding, break lines, or use the URL alphabet (RFC 4648,
    5); programs that read it accept some of these forms. None of them changes the meaning.
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
    """The credentials in a config.json for one registry, which `hosts` name there."""

    def __init__(self, file: Path, hosts: Sequence[str]) -> None:
        self._file = file
        self._hosts = tuple(dict.fromkeys(HUB_ALIASES.get(host, host) for host in hosts))
        self._warned: set[str] = set()
        self._config = self._load()

    def path(self, repository: str) -> str:
        """Return the path within the registry that has a separate account."""
        return self._config.path(self._hosts, repository)

    async def read(self, path: str) -> FoundCredentials:
        """Read the file again and run the helper, if any; anonymous if neither has an account.

        Raises CredentialsUnavailable.
        """
        try:
            self._config = self._load()
        except ValueError as error:
            raise CredentialsUnavailable(str(error)) from None
        # The place's account may have been removed: then a larger place applies.
        path = self._config.path(self._hosts, path)
        account = self._config.account(self._hosts, path)
        source = f"docker_config {self._file}"
        try:
            if helped := await self._helped():
                account, name = helped
                source = f"docker-credential-{name}, which {source} names"
        except credential_helper.HelperMissing as error:
            if account is None:
                raise
            self._warn(f"has an account, used without the helper: {error}")
        return FoundCredentials(account or self._anonymous(), _LIFE, source)

    def _anonymous(self) -> Credentials:
        """Continue anonymously, as docker does, unless there is an account that cannot be read.

        Raises CredentialsUnavailable.
        """
        try:
            self._config.check(self._hosts)
        except ValueError as error:
            raise CredentialsUnavailable(f"docker_config {self._file} {error}") from None
        self._warn(f"has no account for {' or '.join(self._hosts)}")
        return ANONYMOUS

    async def _helped(self) -> tuple[Credentials, str] | None:
        """Return an account from a helper, and the helper's name."""
        for suffix, server in self._config.helper_calls(self._hosts):
            if (account := await credential_helper.ask(suffix, server)) is not None:
                return account, suffix
        return None

    def _load(self) -> DockerConfig:
        """Read the file; raises ValueError."""
        try:
            config = parse(self._file.read_text("utf-8-sig"))  # Windows editors write a BOM
            if not config.helper_calls(self._hosts):  # otherwise a helper may have the account
                config.check(self._hosts)
        except OSError as error:
            raise ValueError(
                f"docker_config {self._file} cannot be read: {explain_unreadable(error)}"
            ) from None
        except UnicodeDecodeError:
            raise ValueError(f"docker_config {self._file} cannot be read: not UTF-8") from None
        except ValueError as error:
            raise ValueError(f"docker_config {self._file} {error}") from None
        for fault in config.faults:
            self._warn(f"{fault}: the entry is ignored")
        return config

    def _warn(self, words: str) -> None:
        """Log a problem of the file once."""
        if words not in self._warned:
            self._warned.add(words)
            _log.warning("%s %s", self._file, words)
