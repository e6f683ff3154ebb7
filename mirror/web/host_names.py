"""The names by which clients reach the mirror, beside those that nobody can make mean another."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address


class HostNames:
    """Hosts in lower case; one without a port is good with any."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)

    def __repr__(self) -> str:
        return f"<HostNames: {len(self._names)} of ours>"

    def know(self, host: str) -> bool:
        """Whether a host, in lower case, is the mirror's: one of these, an address, `localhost`."""
        return _is_plain(host) or host in self._names or _name(host) in self._names


def _name(host: str) -> str:
    """Return a host without its port, and without the dot that ends a name."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).removesuffix(".")


def _is_plain(host: str) -> bool:
    """Whether it is an address, which nobody can make mean another, or this machine's own name."""
    name = _name(host)
    if not name or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
