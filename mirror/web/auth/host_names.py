"""The mirror's host names: the configured ones, in addition to addresses and `localhost`."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address


class HostNames:
    """Configured hosts, in lower case; a host without a port matches any port."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)

    def __repr__(self) -> str:
        return f"<HostNames: {len(self._names)} names>"

    def know(self, host: str) -> bool:
        """Whether a host, in lower case, is configured, an address, or `localhost`."""
        return _is_plain(host) or host in self._names or _name(host) in self._names


def _name(host: str) -> str:
    """Return a host without its port, and without the final dot of a name."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).removesuffix(".")


def _is_plain(host: str) -> bool:
    """Whether a host is an address or a `localhost` name: DNS rebinding cannot redirect these."""
    name = _name(host)
    if not name or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
