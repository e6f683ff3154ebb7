"""Credentials: what shows who we are to a registry, and the sources they are read from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import aiohttp

from mirror.oci.errors import UpstreamFailure

# What the password is: one for Basic; an OAuth 2 refresh token ("identitytoken"); an access token
# of Azure's directory, which a registry exchanges for a refresh token; a registry's own token.
Kind = Literal["password", "refresh", "access", "registry"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account of a registry; nobody's without a password. The password shows in no repr."""

    username: str = ""
    password: str = field(default="", repr=False)
    kind: Kind = "password"

    def __bool__(self) -> bool:
        return bool(self.password)

    def basic(self) -> str:
        """Return the Authorization header's value."""
        return aiohttp.encode_basic_auth(self.username, self.password)


_SHOWN = 300  # characters of a library's or a helper's own words
ANONYMOUS = Credentials()


@dataclass(frozen=True, slots=True)
class Found:
    """Credentials as a source gave them, for how many seconds they are good, and the source."""

    credentials: Credentials
    life: float = math.inf
    source: str = "the machine's identity"


class CredentialsUnavailable(UpstreamFailure):
    """The credentials for an upstream cannot be had at present; `cause` is for the log alone."""

    status = 503

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = " ".join(cause.split())[:_SHOWN]


class Source(Protocol):
    """Where an upstream's credentials come from."""

    def place(self, repository: str) -> str:
        """Return the part of the registry whose credentials this repository wants; "" is all."""

    async def read(self, place: str) -> Found:
        """Read the credentials for a place anew; raises CredentialsUnavailable."""


class Everywhere:
    """The half of a source whose credentials are the same for all of a registry."""

    def place(self, _repository: str) -> str:
        """Return the whole registry."""
        return ""


class Given(Everywhere):
    """Credentials that stand in the settings, or nobody's."""

    def __init__(self, credentials: Credentials = ANONYMOUS) -> None:
        self.credentials = credentials

    async def read(self, _place: str) -> Found:
        """Return them."""
        return Found(self.credentials, source="the configuration")


class PasswordFile(Everywhere):
    """An account whose password lies in a file, and may be another one the next time."""

    def __init__(self, username: str, file: Path) -> None:
        self._username = username
        self._file = file

    async def read(self, _place: str) -> Found:
        """Read the file; raises CredentialsUnavailable."""
        try:
            password = read_password(self._file)
        except OSError as error:
            words = f"password_file {self._file} cannot be read"
            raise CredentialsUnavailable(words, error.strerror or "") from None
        except ValueError as error:
            raise CredentialsUnavailable(f"password_file {self._file} {error}") from None
        source = f"password_file {self._file}"
        return Found(Credentials(self._username, password), source=source)


def read_password(file: Path) -> str:
    """Return what a file holds, without the line end; raises OSError, and ValueError in words.

    Empty is no password: a file is, for a moment, where it is not replaced as a whole.
    """
    try:
        password = file.read_text("utf-8").strip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("is no text in UTF-8") from None
    if not password:
        raise ValueError("is empty")
    return password
