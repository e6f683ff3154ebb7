"""Proxies: the choice of a proxy for a URL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from yarl import URL

_Address = IPv4Address | IPv6Address
# A predicate of one NO_PROXY entry, on a host, its address if it is one, and its port.
_Entry = Callable[[str, "_Address | None", str], bool]


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies for `http` and for `https` URLs, with the exceptions in `direct`.

    Their URLs may contain a login. `direct` is a NO_PROXY as Go's httpproxy reads it: names,
    including all names below them; names with a leading dot, for the names below them only;
    addresses, networks, `*`; names and addresses with a port, for that port only. With `direct`,
    loopback never uses a proxy. None means no exceptions, not even loopback.
    """

    http: URL | None = field(default=None, repr=False)
    https: URL | None = field(default=None, repr=False)
    direct: str | None = None

    @property
    def all(self) -> frozenset[URL]:
        """All configured proxies."""
        return frozenset(each for each in (self.http, self.https) if each is not None)

    def of(self, url: URL) -> URL | None:
        """Return the proxy for a URL; None if there is none."""
        proxy = self.https if url.scheme == "https" else self.http
        if proxy is None or self.direct is None:
            return proxy
        host, port = url.raw_host or "", str(url.port or "")
        return None if is_direct(self.direct, host, port) else proxy


@lru_cache(maxsize=1024)
def is_direct(direct: str, host: str, port: str) -> bool:
    """Whether a host is connected to without a proxy."""
    host = host.lower().rstrip(".")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(entry(host, address, port) for entry in _entries(direct))


@lru_cache(maxsize=8)
def _entries(direct: str) -> tuple[_Entry, ...]:
    texts = (each.strip().lower() for each in direct.split(","))
    return tuple(entry for text in texts if (entry := _entry(text)) is not None)


def _entry(text: str) -> _Entry | None:
    if text == "*":
        return lambda _host, _address, _port: True
    if "/" in text:
        return _network(text)
    name, port = _split(text)
    if not name:
        return None
    address = _address(name)
    if address is not None:
        return lambda _, other, its: other == address and port in ("", its)
    name = _ascii(name.removeprefix("*"))
    itself = "" if name.startswith(".") else name
    below = f".{name.removeprefix('.')}"
    return lambda host, _, its: (host == itself or host.endswith(below)) and port in ("", its)


def _network(text: str) -> _Entry | None:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return lambda _host, address, _port: address is not None and address in network


def _split(text: str) -> tuple[str, str]:
    """Split host and port; an IPv6 address with a port is in brackets."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, port.removeprefix(":")
    host, colon, port = text.partition(":")
    return (text, "") if ":" in port or not colon else (host, port)


def _ascii(name: str) -> str:
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _address(text: str) -> _Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
