"""Credentials for a registry, and the sources they are read from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import aiohttp

from mirror.oci.errors import UpstreamFailure

# The type of the password: one for Basic; an OAuth 2 refresh token ("identitytoken"); an access
# token of Azure's directory, which a registry exchanges for a refresh token; a registry's own
# token.
Kind = Literal["password", "refresh", "access", "registry"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account of a registry, anonymous without a password. The password is not in the repr."""

    username: str = ""
    password: str = field(default="", repr=False)
    kind: Kind = "password"

    def __bool__(self) -> bool:
        return bool(self.password)

    def basic(self) -> str:
        """Return the value of the Authorization header."""
        return aiohttp.encode_basic_auth(self.username, self.password)


_SHOWN = 300  # characters of a library's or helper's message
ANONYMOUS = Credentials()


@dataclass(frozen=True, slots=True)
class FoundCredentials:
    """Credentials from a source, the seconds that they are valid, and the source's name."""

    credentials: Credentials
    life: float = math.inf
    source: str = "the machine's identity"


class CredentialsUnavailable(UpstreamFailure):
    """The credentials for an upstream are not available now; `cause` is for the log only."""

    status = 503

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = " ".join(cause.split())[:_SHOWN]


class CredentialSource(Protocol):
    """A source of an upstream's credentials."""

    def path(self, repository: str) -> str:
        """Return the path in the registry that a repository's credentials are for; "" is all."""

    async def read(self, path: str) -> FoundCredentials:
        """Read the credentials for a place again; raises CredentialsUnavailable."""


class RegistryWideSource:
    """A base of sources with the same credentials for a whole registry."""

    def path(self, _repository: str) -> str:
        """Return "", for the whole registry."""
        return ""


class StaticCredentials(RegistryWideSource):
    """Credentials from the settings, or anonymous."""

    def __init__(self, credentials: Credentials = ANONYMOUS) -> None:
        self.credentials = credentials

    async def read(self, _path: str) -> FoundCredentials:
        """Return the credentials."""
        return FoundCredentials(self.credentials, source="the configuration")


class PasswordFile(RegistryWideSource):
    """An account with its password in a file, which is read each time."""

    def __init__(self, username: str, file: Path) -> None:
        self._username = username
        self._file = file

    async def read(self, _path: str) -> FoundCredentials:
        """Read the file; raises CredentialsUnavailable."""
        try:
            password = read_password(self._file)
        except OSError as error:
            words = f"password_file {self._file} cannot be read"
            raise CredentialsUnavailable(words, error.strerror or "") from None
        except ValueError as error:
            raise CredentialsUnavailable(f"password_file {self._file} {error}") from None
        source = f"password_file {self._file}"
        return FoundCredentials(Credentials(self._username, password), source=source)


def read_password(file: Path) -> str:
    """Return a file's content without the line end; raises OSError, and ValueError with a message.

    An empty file is refused: a file is empty for a moment unless it is replaced atomically.
    """
    try:
        password = file.read_text("utf-8").strip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if not password:
        raise ValueError("is empty")
    return password
