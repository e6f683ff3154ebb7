"""Addresses of clients: their normal form, and which of them count as one client."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

_OWN = 64  # leading bits of an IPv6 address that a host does not choose itself (RFC 4291, 2.5.1)


def as_told(text: str) -> str:
    """Return the normal form of an address that a proxy names; raises ValueError.

    A zone has meaning to the proxy alone, and may be any text; an IPv4 address in IPv6 becomes that
    IPv4 address.
    """
    parsed = ip_address(text.partition("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


@lru_cache(maxsize=8192)
def one_client(address: str) -> str:
    """Return the key that a client is counted by: of IPv6 the network, all of it one host's."""
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:  # as a listener on [::] reports it
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, _OWN), strict=False))
