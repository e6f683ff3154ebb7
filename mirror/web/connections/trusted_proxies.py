"""Trusted proxies before the mirror, which tell it the addresses of clients."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address, ip_network

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from mirror.identity.address import as_told

_HOPS = 16  # proxies in a row that are skipped; no honest path has more
_LONGEST = 64  # characters of an address with its zone and port


class TrustedProxies:
    """Proxies by their addresses and networks, as `trusted_proxies` lists them.

    Each proxy appends the address of its peer to X-Forwarded-For. Elements further left may be the
    client's own text: so the list is read from its right end, and the first address that is not a
    proxy's is the client. `Forwarded` (RFC 7239) is not read: a proxy that writes one of the two
    headers passes on its client's text in the other.

    With `proxy_protocol` the proxies begin each connection with its client's address, by the PROXY
    protocol.
    """

    def __init__(self, trusted_proxies: Collection[str], *, proxy_protocol: bool = False) -> None:
        self._networks = [ip_network(each) for each in trusted_proxies]
        self.proxy_protocol = proxy_protocol
        self.trusts = lru_cache(maxsize=8192)(self._trusts)

    def __repr__(self) -> str:
        return (
            f"<TrustedProxies: {len(self._networks)} networks{', preambles' * self.proxy_protocol}>"
        )

    def client(self, peer: str, headers: CIMultiDictProxy[str]) -> str:
        """Return the address of a request's client, given that of its connection's peer.

        An element that is not an address, such as `unknown`, ends the list: the proxy that wrote it
        counts as the client. If all elements are proxies, the leftmost is the client.
        """
        if hdrs.X_FORWARDED_FOR not in headers or not self.trusts(peer):
            return peer
        text = ",".join(headers.getall(hdrs.X_FORWARDED_FOR))
        for element in reversed(text.rsplit(",", _HOPS)):
            if not element.strip():  # empty elements are ignored (RFC 9110, 5.6.1)
                continue
            address = read_address(element)
            if address is None:
                break
            peer = address
            if not self.trusts(peer):
                break
        return peer

    def _trusts(self, address: str) -> bool:
        """Whether an address is a trusted proxy's."""
        plain = read_address(address)
        if plain is None:
            return False
        parsed = ip_address(plain)
        return any(parsed in network for network in self._networks)  # false for another IP version


def read_address(text: str) -> str | None:
    """Return the address in an X-Forwarded-For element, without port and zone; None if invalid."""
    return _read(text.strip()) if len(text) <= 2 * _LONGEST else None


@lru_cache(maxsize=8192)
def _read(text: str) -> str | None:
    text = text.strip('"')
    if len(text) > _LONGEST:
        return None
    if text.startswith("["):
        text, _, port = text[1:].partition("]")
        port = port or ":0"
    elif text.count(":") == 1:
        text, colon, port = text.partition(":")
        port = colon + port
    else:
        port = ":0"
    if not (port[:1] == ":" and port[1:].isascii() and port[1:].isdigit()):
        return None
    try:
        return as_told(text)
    except ValueError:
        return None
