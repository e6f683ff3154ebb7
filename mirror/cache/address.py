"""Addresses of clients: how they are written, and which of them are taken for one client's."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

_OWN = 64  # leading bits of an IPv6 address that a host does not choose itself (RFC 4291, 2.5.1)


def as_told(text: str) -> str:
    """Return an address that a proxy tells as it is compared; raises ValueError.

    A zone is the proxy's own, and any text; an IPv4 address in IPv6 is that IPv4 address.
    """
    parsed = ip_address(text.partition("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


@lru_cache(maxsize=8192)
def one_client(address: str) -> str:
    """Return what a client is counted by: of IPv6 its network, whose addresses are all its own."""
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:  # as a listener on [::] has it
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, _OWN), strict=False))
