"""The values that keys take: how each is read, and what is said of one that cannot be."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ByteSize, Field, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import NoDecode

from mirror.cache.caller import is_client_name
from mirror.cache.shares import EACH, Share
from mirror.failure import CommandFailed
from mirror.oci.names import HUB, HUB_ALIASES, is_host, is_repository_name, stands_for_host
from mirror.oci.patterns import check_pattern
from mirror.sizes import human


class ConfigurationError(CommandFailed):
    """The configuration cannot be used; the message names the key, the value, what is allowed."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a value, in a word for the help."""

    word: str


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> Address:
    host, colon, port = str(value).rpartition(":")
    if not colon or not _is_number(port) or int(port) > 65535 or (":" in host and "[" not in host):
        raise ValueError("host:port is wanted, such as 127.0.0.1:5000, [::]:5000 or :5000")
    return Address(host.strip("[]"), int(port))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _path(value: object) -> Path:
    text = str(value)
    if not isinstance(value, str | Path) or not text or "\0" in text:
        raise ValueError("a path is wanted")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("a path is wanted, and this user has no home for ~ to mean") from None


def parse_size(value: object) -> int:
    """Read bytes, with or without a suffix; raises ValueError."""
    try:
        size = TypeAdapter(ByteSize).validate_python(value)
    except ValidationError:
        size = ByteSize(-1)
    if size < 0 or isinstance(value, bool):
        raise ValueError("bytes are wanted, with or without a suffix, such as 50GiB or 800MB")
    return size


_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PART = r"(\d{1,12}(?:\.\d{1,6})?) ?(ms|s|min|m|h|d|w)"
_DURATION = re.compile(rf"{_PART}(?: ?{_PART})*", re.ASCII)


def parse_duration(value: object) -> float:
    """Read seconds, or a duration with units; raises ValueError."""
    text = str(value).strip()
    if _DURATION.fullmatch(text):
        parts: list[tuple[str, str]] = re.findall(_PART, text)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        try:
            seconds = -1.0 if isinstance(value, bool) else float(text)
        except ValueError:
            seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise ValueError(
            'a duration is wanted: seconds, such as 60 or 2.5, or "5m", "1h30m", "30d"'
        )
    return seconds


SMALLEST = 64 * 1024**2  # bytes; less holds no image, and is nearly always a mistake


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that is kept: so many bytes, or a part of the file system."""

    bytes: int = 0
    percent: float = 0.0

    def of(self, folder: Path) -> int:
        """Return how many bytes that is, for a folder that need not be there yet.

        Raises ConfigurationError.
        """
        return self.bytes or self._part(shutil.disk_usage(_existing(folder)).total)

    def beyond(self, folder: Path) -> str | None:
        """Say so where it is more than the file system that holds a folder has in all."""
        place = _existing(folder)
        total = shutil.disk_usage(place).total
        if not total or self.bytes <= total:  # some file systems do not say what they have
            return None
        return (
            f"max_size is '{human(self.bytes)}': the file system that holds {place} has no more "
            f'than {human(total)} in all, and is full before that; a part of it, such as "80%", '
            "keeps to what there is"
        )

    def _part(self, total: int) -> int:
        size = int(total * self.percent / 100)
        if size < SMALLEST:
            raise ConfigurationError(
                f"max_size is '{self.percent:g}%': that is {human(size)} of the file system's "
                f"{human(total)}; at least {human(SMALLEST)} is wanted"
            )
        return size

    def __str__(self) -> str:
        return human(self.bytes) if self.bytes else f"{self.percent:g}%"


def _existing(folder: Path) -> Path:
    # A folder that may not be looked into is none here, and no error.
    found = (each for each in (folder, *folder.parents) if os.path.exists(each))  # noqa: PTH110
    return next(found, Path("/"))


def _bound(value: object) -> Bound:
    if isinstance(value, Bound):
        return value
    text = str(value).strip()
    try:
        if text.endswith("%"):
            percent = float(text.removesuffix("%"))
            if 0 < percent <= 100:
                return Bound(percent=percent)
        elif (size := parse_size(value)) >= SMALLEST:
            return Bound(size)
    except ValueError:
        pass
    raise ValueError(
        f"bytes with or without a suffix are wanted, such as 50GiB, at least {human(SMALLEST)}, "
        'or a part of the file system, such as "80%"'
    )


def _url(value: object) -> str:
    if not _plain_url(str(value)):
        raise ValueError(
            "http://host[:port] or https://host[:port] is wanted, a path may follow; "
            "username and password have keys of their own"
        )
    return str(value).rstrip("/")


def _plain_url(text: str) -> bool:
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return False
    return bool(whole) and not (parts.username or parts.password or parts.query or parts.fragment)


DIRECTLY = "none"  # in the place of a proxy


def parse_proxy(value: object) -> SecretStr:
    """Read the URL of a proxy, with a login or without, or that none is wanted.

    Raises ValueError.
    """
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    login, at, rest = text.rpartition("@")
    scheme, colon, _ = (login or text).partition("://")
    bare = f"{scheme}://{rest}" if at else text
    if text == DIRECTLY:
        return SecretStr(text)
    if not colon or not _plain_url(bare) or urlsplit(bare).path not in ("", "/"):
        raise ValueError(
            "http://[user:password@]host:port or https://[user:password@]host:port is wanted, "
            'or "none"'
        )
    return SecretStr(text)


def parse_origin(text: str) -> str:
    """Read a URL that is no more than scheme, host and port; raises ValueError."""
    if not _plain_url(text) or urlsplit(text).path not in ("", "/"):
        raise ValueError("origins are wanted, such as https://auth.example:8443")
    return text.rstrip("/")


def _origins(value: object) -> tuple[str, ...]:
    return tuple(parse_origin(each) for each in _listed(value))


def _repository_path(value: object) -> str:
    path = str(value).strip("/")
    if path and not is_repository_name(path):
        raise ValueError(
            "a part of a repository's name is wanted, such as dockerhub-cache or team/cache: "
            "lower-case letters and digits, separated by . _ __ - or /"
        )
    return path


def _upstream_name(value: object) -> str:
    name = str(value)
    # Without a dot or a colon it would be taken for a part of Docker Hub's names, and they for it.
    if not is_host(name) or not stands_for_host(name):
        raise ValueError(
            "a registry's name as images use it is wanted, in lower case, with a dot or a port, "
            "such as ghcr.io or registry.example:5000"
        )
    if name in HUB_ALIASES:
        raise ValueError(f"the name of this registry is {HUB}")
    return name


def _hosts(value: object) -> tuple[str, ...]:
    hosts = tuple(each.lower() for each in _listed(value))
    if not all(map(is_host, hosts)):
        raise ValueError("hosts are wanted, such as ghcr.mirror.example or 10.0.0.9:5001")
    return hosts


def _listed(value: object) -> list[str]:
    """Read a list; in a variable it is JSON's, or has commas."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = [each.strip() for each in str(value).split(",") if each.strip()]
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


def _pattern(value: object) -> str:
    return check_pattern(str(value))


def _patterns(value: object) -> tuple[str, ...]:
    return tuple(check_pattern(each) for each in _listed(value))


def _share(value: object) -> Share:
    text = str(value)
    if isinstance(value, Share):
        return value
    if not isinstance(value, bool) and _is_number(text) and int(text) > 0:
        return Share(int(text))
    try:
        percent = float(text.removesuffix("%")) if text.endswith("%") else 0.0
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise ValueError('a number of pulls or a part of the limit is wanted, such as 20 or "25%"')
    return Share(percent=percent)


def _party(value: object) -> str:
    if value == EACH or is_client_name(str(value)):
        return str(value)
    try:
        return str(ip_network(str(value)))
    except ValueError:
        raise ValueError(
            f"{value!r}: an address, a network such as 10.0.0.0/8, the name of a client that "
            'logs in, or "*" is wanted'
        ) from None


def _networks(value: object) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(each)) for each in _listed(value))
    except ValueError:
        raise ValueError(
            "addresses and networks are wanted, such as 10.0.0.9 or 10.0.0.0/8"
        ) from None


def _client_name(value: object) -> str:
    if not is_client_name(str(value)):
        raise ValueError(
            "a client's name is wanted: a letter, then letters, digits, '.', '_', '@' or '-'"
        )
    return str(value)


Size = Annotated[int, BeforeValidator(parse_size), Form("SIZE")]
Seconds = Annotated[float, BeforeValidator(parse_duration), Form("DURATION")]
MaxSize = Annotated[Bound, NoDecode, BeforeValidator(_bound), Form("SIZE|PERCENT")]
Party = Annotated[str, BeforeValidator(_party)]
PartysShare = Annotated[Share, BeforeValidator(_share)]
Pulls = Annotated[int, Field(ge=0, le=10**9)]
ListenAddress = Annotated[Address, NoDecode, BeforeValidator(_address), Form("HOST:PORT")]
FilePath = Annotated[Path, BeforeValidator(_path), Form("PATH")]
Url = Annotated[str, BeforeValidator(_url)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]
ProxyUrl = Annotated[SecretStr, BeforeValidator(parse_proxy)]
Hosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_hosts), Form("HOST,...")]
Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks), Form("NETWORK,...")]
ClientName = Annotated[str, BeforeValidator(_client_name)]
RepositoryPath = Annotated[str, BeforeValidator(_repository_path)]
UpstreamName = Annotated[str, BeforeValidator(_upstream_name), Form("NAME")]
Pattern = Annotated[str, BeforeValidator(_pattern)]
PatternList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_patterns), Form("PATTERN,...")]
