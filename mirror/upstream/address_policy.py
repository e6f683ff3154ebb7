"""The address policy against SSRF: which addresses an upstream may lead to, checked at connecting.

Redirects and token servers named by an upstream are requested from this machine's network position:
they must not reach hosts that only this machine can reach.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from mirror.oci.errors import UpstreamMisbehaved, shown

IPAddress = IPv4Address | IPv6Address


class AddressScope(Enum):
    """The network that an address is in, as seen from this machine."""

    PUBLIC = "public"
    NEAR = "private or loopback"
    LINK = "link-local or metadata"
    NOWHERE = "multicast"


# Metadata services of clouds, in addition to link-local 169.254.169.254: Alibaba, Oracle, Azure
# (which looks like a public address), Google, Scaleway; and AWS, with its services.
_METADATA = frozenset(
    ip_address(each)
    for each in (
        *("100.100.100.200", "192.0.0.192", "168.63.129.16"),
        *("fd20:ce::254", "fd00:42::42"),
    )
)
_AWS = IPv6Network("fd00:ec2::/32")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_OWN_NAT64 = IPv6Network("64:ff9b:1::/48")  # RFC 8215: local use, like the addresses it embeds
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, 2.5.5.1
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")  # RFC 2765, 2.1
_FAR = frozenset({AddressScope.PUBLIC})
_NOT_ASCII = re.compile(r"[ \x80-\U0010ffff]+")
_LONGEST = 64 * 1024  # characters of a Location; servers take request lines of 8 to 16 KiB
_LONGEST_HOST = 253  # characters (RFC 1035, 2.3.4)
_NAME = re.compile(r"[a-z0-9._-]{1,253}", re.ASCII)  # RFC 1035, 2.3, plus underscores


def scope_of(address: IPAddress) -> AddressScope:
    """Return the network of an address; an embedded IPv4 address counts in place of its wrapper."""
    address = _unwrapped(address)
    if address in _METADATA or address in _AWS or address.is_link_local:
        return AddressScope.LINK
    if address.is_multicast:
        return AddressScope.NOWHERE
    if isinstance(address, IPv6Address) and address in _OWN_NAT64:
        return (
            AddressScope.LINK
            if AddressScope.LINK in map(scope_of, _translated(address))
            else AddressScope.NEAR
        )
    # In addition to RFC 1918: loopback, unspecified, CGNAT, unique and site local, and reserved.
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return AddressScope.NEAR if site_local or not address.is_global else AddressScope.PUBLIC


def _unwrapped(address: IPAddress) -> IPAddress:
    """Extract an IPv4 address from IPv6 (mapped, translated, 6to4, Teredo, NAT64, compatible)."""
    if isinstance(address, IPv4Address):
        return address
    low = int(address) & 0xFFFFFFFF
    if address in _NAT64 or address in _TRANSLATED or (address in _COMPATIBLE and low > 1):
        return IPv4Address(low)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


def _translated(address: IPv6Address) -> list[IPv4Address]:
    """Return the addresses that a prefix of 48, 56, 64 or 96 bits would embed (RFC 6052, 2.2)."""
    packed = address.packed
    split = packed[:8] + packed[9:]  # the ninth octet is not part of the embedded address
    return [IPv4Address(each) for each in (split[6:10], split[7:11], split[8:12], packed[12:])]


class AddressPolicy:
    """The address policy of one upstream; its own origin is allowed, as configured by the operator.

    No redirect may lead to one of the `proxies`, which may have addresses refused to the upstream.
    Whether the upstream is public is learned from the addresses of its host. Once public, it stays
    so: otherwise the controller of its DNS name could turn it inward, for itself or for a redirect.
    """

    def __init__(self, own: URL, proxies: Iterable[URL] = ()) -> None:
        self._own = _end(own)
        self._proxies = frozenset(map(_end, proxies))
        self._scopes: set[AddressScope] = set()
        if (literal := _literal(self._own[0])) is not None:
            self._scopes.add(scope_of(literal))

    def __repr__(self) -> str:
        return f"<AddressPolicy of {self._own[0]}: {sorted(each.value for each in self._scopes)}>"

    def check(self, url: URL) -> None:
        """Refuse a URL because of its literal host; raises UpstreamMisbehaved.

        A DNS name passes: its addresses are checked when it is resolved.
        """
        end = _end(url)
        if end == self._own:
            return
        host = end[0]
        if end in self._proxies:
            raise UpstreamMisbehaved(f"upstream leads to {shown(host)}, the mirror's own proxy")
        literal = _literal(host)
        if "%" in host or (literal is None and not _is_name(host)):
            raise UpstreamMisbehaved(
                f"upstream leads to {shown(host)}, which is not a valid host name or address"
            )
        if literal is not None and not self._allowed(scope_of(literal)):
            raise _refusal(host, scope_of(literal))

    def choose(self, host: str, port: int, found: list[ResolveResult]) -> list[ResolveResult]:
        """Return the addresses of a name that may be connected to; raises UpstreamMisbehaved.

        No name may lead to a metadata service, not even the upstream's own.
        """
        if (_bare(host), port) in self._proxies:  # configured by the operator, too
            return found
        own = (_bare(host), port) == self._own
        passes = self._may_lie if own else self._allowed
        scopes = [scope_of(ip_address(each["host"])) for each in found]
        chosen = {each for each in scopes if each is not AddressScope.LINK and passes(each)}
        if found and not chosen:
            raise _refusal(host, scopes[0])
        if own:
            self._scopes |= chosen
        return [each for each, scope in zip(found, scopes, strict=True) if scope in chosen]

    def _may_lie(self, target: AddressScope) -> bool:
        """Allow its own name to be public, or private if it was at first, too."""
        first = not self._scopes
        return target is AddressScope.PUBLIC or (
            target is AddressScope.NEAR and (first or AddressScope.NEAR in self._scopes)
        )

    def _allowed(self, target: AddressScope) -> bool:
        """Allow private targets to private upstreams only; an unresolved upstream is public."""
        own = self._scopes or _FAR
        if target is AddressScope.NEAR:
            return AddressScope.PUBLIC not in own
        if target is AddressScope.LINK:
            return own == {AddressScope.LINK}
        return target is AddressScope.PUBLIC


class CheckedResolver(AbstractResolver):
    """A resolver that returns only addresses allowed by its guard: checked equals connected.

    Behind a proxy, names are resolved there, and only the proxy's name is resolved here.
    Raises UpstreamMisbehaved if no address is allowed, OSError as `inner` does.
    """

    def __init__(self, address_policy: AddressPolicy, inner: AbstractResolver) -> None:
        self._address_policy = address_policy
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name, leaving out refused addresses."""
        found = await self._inner.resolve(host, port, family)
        return self._address_policy.choose(host, port, found)

    async def close(self) -> None:
        """Close the inner resolver."""
        await self._inner.close()


def follow(url: URL, location: str) -> URL:
    """Return the URL of a Location relative to `url`; never from https to http or another scheme.

    Its encoding is kept, because signatures cover it. Only characters that no request line allows,
    spaces and octets beyond ASCII, are encoded, as by Go's net/url. User and password are removed:
    Go's clients would send both as Basic, but an upstream must not choose the mirror's login
    elsewhere. Raises UpstreamMisbehaved, without the query, which may hold a signature.
    """
    if len(location) > _LONGEST:
        raise UpstreamMisbehaved(f"upstream redirects to a URL of {len(location)} characters")
    location = _NOT_ASCII.sub(_encoded, location.strip(" "))
    try:
        target = url.join(URL(location, encoded=True))
        allowed = target.scheme == "https" or target.scheme == url.scheme == "http"
        # Not `host`: decoding a long name takes seconds (punycode).
        named = 0 < len(target.raw_host or "") <= _LONGEST_HOST
        if location and named and allowed:
            return target.with_user(None)
    except ValueError:
        pass
    raise UpstreamMisbehaved(
        f"upstream redirects to a forbidden URL: {shown(location.partition('?')[0])}"
    )


def _encoded(octets: re.Match[str]) -> str:
    return quote(octets[0].encode("utf-8", "surrogateescape"))


def _end(url: URL) -> tuple[str, int | None]:
    return _bare(url.raw_host or ""), url.port


def _bare(host: str) -> str:
    return host.lower().rstrip(".")


def _literal(host: str) -> IPAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    """Distinguish a name from an inet_aton address (127.1, 0x7f000001, 2130706433)."""
    return bool(_NAME.fullmatch(host)) and not host.rpartition(".")[2][:1].isdigit()


def _refusal(host: str, scope: AddressScope) -> UpstreamMisbehaved:
    return UpstreamMisbehaved(f"upstream leads to {shown(host)}, a {scope.value} address")
