"""Which token server may see an upstream's credentials."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Collection

from publicsuffixlist import PublicSuffixList
from yarl import URL

from mirror.oci.errors import UpstreamMisbehaved, shown

# Characters of a host: what yarl makes of it takes time that grows with the square (punycode).
_LONGEST_HOST = 300
_BEHIND_HOST = re.compile("[/?#]")


async def check_realm(
    upstream: URL, realm: str, listed: Collection[URL], *, credentials: bool
) -> URL:
    """Return the realm that an upstream names, if it may be asked; raises UpstreamMisbehaved.

    Any realm may be asked for an anonymous token, but an address only if it is the upstream's
    own. Credentials go to the upstream's own host, to its registrable domain (by the public
    suffix list), or to an origin that the operator listed; never from https to http
    (CVE-2026-33540: an upstream that names a foreign realm gets them).
    """
    url = _read(realm)
    if any(_origin(each) == _origin(url) for each in listed):
        return url
    if url.scheme != "https" and upstream.scheme != "http":
        raise UpstreamMisbehaved(f"upstream names the token server {shown(realm)}")
    host, own = _host(url), _host(upstream)
    if host == own:
        return url
    if _is_local(host):
        raise UpstreamMisbehaved(
            f"upstream {own} names the token server {host}, an address not its own: "
            "`realms` may list it"
        )
    if credentials and not await asyncio.to_thread(_related, host, own):
        raise UpstreamMisbehaved(
            f"token server {host} is not trusted with the login of {own}: `realms` may list it"
        )
    return url


def is_readable(realm: str) -> bool:
    """Whether a realm is a URL that could be asked at all."""
    try:
        return bool(_read(realm))
    except UpstreamMisbehaved:
        return False


def _read(realm: str) -> URL:
    host = _BEHIND_HOST.split(realm.partition("//")[2], maxsplit=1)[0]
    try:
        url = URL(realm) if len(host) <= _LONGEST_HOST else URL()
        if url.host and url.scheme in ("http", "https") and not url.user and not url.password:
            return url
    except ValueError:
        pass
    raise UpstreamMisbehaved(f"upstream names the token server {shown(realm)}")


def _host(url: URL) -> str:
    return (url.host or "").lower().rstrip(".")


def _origin(url: URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port; the last is the scheme's own where none is named."""
    return url.scheme, _host(url), url.port


def _is_local(host: str) -> bool:
    """Tell an address, in whichever notation, and this machine's name, from a name of the DNS."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        # inet_aton takes 127.1, 0x7f000001 and 2130706433 too; no top-level domain looks so.
        last = host.rpartition(".")[2]
        return last == "localhost" or last[:1].isdigit()


def _related(host: str, own: str) -> bool:
    """Compare registrable domains. The list takes megabytes while it is read, so it is not kept."""
    if _is_local(own) or host.split(".")[-2:] != own.split(".")[-2:]:
        return False  # no domain that is registered has a single label
    suffixes = PublicSuffixList()
    domain = suffixes.privatesuffix(own)
    return domain is not None and domain == suffixes.privatesuffix(host)
