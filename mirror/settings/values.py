"""The types of values: each with its parser, and the message for an invalid value."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from mirror.identity.client import is_client_name
from mirror.identity.share import EACH, Share
from mirror.oci.names import HUB, HUB_ALIASES, is_host, is_repository_name, stands_for_host
from mirror.oci.patterns import check_pattern
from mirror.util.command_error import CommandError


class ConfigurationError(CommandError):
    """The configuration is unusable; the message names the key, its value, and valid ones."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a value, in a word for the help."""

    word: str


class Address(NamedTuple):
    """An address and port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> Address:
    host, colon, port = str(value).rpartition(":")
    if not colon or not _is_number(port) or int(port) > 65535 or (":" in host and "[" not in host):
        raise ValueError("expected host:port, such as 127.0.0.1:5000, [::]:5000 or :5000")
    return Address(host.strip("[]"), int(port))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


_CONTROL = [chr(code) for code in (*range(32), 127)]


def _path(value: object) -> Path:
    text = str(value)
    if not isinstance(value, str | Path) or not text or any(each in text for each in _CONTROL):
        raise ValueError("expected a path, without control characters such as a line's end")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("expected a path without ~: this user has no home") from None


def _url(value: object) -> str:
    if not _plain_url(str(value)):
        raise ValueError(
            "expected http://host[:port] or https://host[:port], with or without a path; "
            "username and password are separate keys"
        )
    return _written(str(value))


def _written(url: str) -> str:
    """Return a valid URL in the form for comparisons: the scheme's case has no meaning."""
    scheme, colon, rest = url.rstrip("/").partition("://")
    return scheme.lower() + colon + rest


def _plain_url(text: str) -> bool:
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return False
    odd = "?" in text or "#" in text or "@" in parts.netloc or parts.netloc.endswith(":")
    return bool(whole) and not odd


DIRECTLY = "none"  # instead of a proxy's URL


def parse_proxy(value: object) -> SecretStr:
    """Read the URL of a proxy, with a login or without, or "none" for no proxy.

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
            "expected http://[user:password@]host:port or https://[user:password@]host:port, "
            'or "none"'
        )
    return SecretStr(text)


def parse_origin(text: str) -> str:
    """Read a URL that has only scheme, host and port; raises ValueError."""
    if not _plain_url(text) or urlsplit(text).path not in ("", "/"):
        raise ValueError("expected origins, such as https://auth.example:8443")
    return _written(text)


def _origins(value: object) -> tuple[str, ...]:
    return tuple(parse_origin(each) for each in _listed(value))


def _repository_path(value: object) -> str:
    path = str(value).strip("/")
    if path and not is_repository_name(path):
        raise ValueError(
            "expected a part of a repository's name, such as dockerhub-cache or team/cache: "
            "lower-case letters and digits, separated by . _ __ - or /"
        )
    return path


def _upstream_name(value: object) -> str:
    name = str(value)
    # A name without a dot or a colon could not be told from a part of Docker Hub's names.
    if not is_host(name) or not stands_for_host(name):
        raise ValueError(
            "expected a registry's name as images use it, in lower case, with a dot or a port, "
            "such as ghcr.io or registry.example:5000"
        )
    if name in HUB_ALIASES:
        raise ValueError(f"the name of this registry is {HUB}")
    return name


def _hosts(value: object) -> tuple[str, ...]:
    hosts = tuple(each.lower() for each in _listed(value))
    if not all(map(is_host, hosts)):
        raise ValueError("expected hosts, such as ghcr.mirror.example or 10.0.0.9:5001")
    return hosts


def _listed(value: object) -> list[str]:
    """Read a list; in a variable it is JSON, or has commas."""
    if isinstance(value, str):
        value = _parts(value)
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


def _number(value: object) -> object:
    """Refuse booleans, which Python accepts as 0 and 1."""
    if isinstance(value, bool):
        raise ValueError("expected a number")  # noqa: TRY004 - of the value, for pydantic
    return value


def _parts(text: str) -> list[str]:
    parts: object = text.split(",")
    if text.lstrip()[:1] in ("[", '"'):
        with suppress(ValueError, RecursionError):
            parts = json.loads(text)
    return [
        each.strip()
        for each in map(str, parts if isinstance(parts, list) else [parts])
        if each.strip()
    ]


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
        raise ValueError('expected a number of pulls or a part of the limit, such as 20 or "25%"')
    return Share(percent=percent)


def _party(value: object) -> str:
    if value == EACH or is_client_name(str(value)):
        return str(value)
    try:
        return _network(str(value))
    except ValueError as error:
        raise ValueError(
            f"{value!r}: expected an address, a network such as 10.0.0.0/8, a client's login name, "
            f'or "*"{_but(error)}'
        ) from None


def _networks(value: object) -> tuple[str, ...]:
    try:
        return tuple(_network(each) for each in _listed(value))
    except ValueError as error:
        raise ValueError(
            f"expected addresses and networks, such as 10.0.0.9 or 10.0.0.0/8{_but(error)}"
        ) from None


_MAPPED = 96  # bits of an IPv6 address before the IPv4 address in it (RFC 4291, 2.5.5.2)


class _Meant(ValueError):
    """The text is not a network, but similar; the message is a network that may be meant."""


def _but(error: ValueError) -> str:
    return f"; is {error} meant?" if isinstance(error, _Meant) else ""


def _network(text: str) -> str:
    """Read an address or a network; raises ValueError.

    It is compared with clients' addresses, which have no zone, and are IPv4 if they are IPv4 in
    IPv6: a network of another form would never match a client.
    """
    found = ip_network(text, strict=False)
    if "%" in text:
        raise _Meant(text[: text.index("%")])
    if found.network_address != ip_address(text.partition("/")[0]):
        raise _Meant(str(found))
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    if mapped is not None and found.prefixlen >= _MAPPED:
        return f"{mapped}/{found.prefixlen - _MAPPED}"
    return str(found)


def _client_name(value: object) -> str:
    if not is_client_name(str(value)):
        raise ValueError(
            "expected a client's name: a letter, then letters, digits, '.', '_', '@' or '-'"
        )
    return str(value)


def _client_names(value: object) -> tuple[str, ...]:
    return tuple(_client_name(each) for each in _listed(value))


Number = BeforeValidator(_number)
Party = Annotated[str, BeforeValidator(_party)]
PartysShare = Annotated[Share, BeforeValidator(_share)]
Pulls = Annotated[int, Number, Field(ge=0, le=10**9)]
ListenAddress = Annotated[Address, NoDecode, BeforeValidator(_address), Form("HOST:PORT")]
FilePath = Annotated[Path, BeforeValidator(_path), Form("PATH")]
Url = Annotated[str, BeforeValidator(_url)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]
ProxyUrl = Annotated[SecretStr, BeforeValidator(parse_proxy)]
Hosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_hosts), Form("HOST,...")]
Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks), Form("NETWORK,...")]
ClientName = Annotated[str, BeforeValidator(_client_name)]
ClientNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_client_names), Form("NAME,...")]
RepositoryPath = Annotated[str, BeforeValidator(_repository_path)]
UpstreamName = Annotated[str, BeforeValidator(_upstream_name), Form("NAME")]
PatternList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_patterns), Form("PATTERN,...")]
