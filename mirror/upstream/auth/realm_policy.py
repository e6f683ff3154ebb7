"""The trust policy for realms: which token servers may see an upstream's credentials."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Collection

from publicsuffixlist import PublicSuffixList
from yarl import URL

from mirror.oci.errors import UpstreamMisbehaved, shown

# Characters of a host: yarl's decoding takes quadratic time (punycode).
_LONGEST_HOST = 300
_BEHIND_HOST = re.compile("[/?#]")


async def check_realm(
    upstream: URL, realm: str, listed: Collection[URL], *, credentials: bool
) -> URL:
    """Return the realm that an upstream names, if allowed; raises UpstreamMisbehaved.

    Any realm may be asked for an anonymous token, but an IP address only if it is the upstream's
    own. Credentials are sent only to the upstream's own host, its registrable domain (by the public
    suffix list), or an origin listed by the operator; never from https to http (CVE-2026-33540: an
    upstream that names a foreign realm receives them).
    """
    url = _read(realm)
    if any(_origin(each) == _origin(url) for each in listed):
        return url
    if url.scheme != "https" and upstream.scheme != "http":
        raise UpstreamMisbehaved(f"upstream names a token server without TLS: {shown(realm)}")
    host, own = _host(url), _host(upstream)
    if host == own:
        return url
    if _is_local(host):
        raise UpstreamMisbehaved(
            f"upstream {own} names the token server {host}, a foreign address: "
            "list it in `realms` to allow it"
        )
    if credentials and not await asyncio.to_thread(_related, host, own):
        raise UpstreamMisbehaved(
            f"token server {host} is not trusted with the login of {own}: list it in `realms`"
        )
    return url


def is_readable(realm: str) -> bool:
    """Whether a realm is a valid URL."""
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
    raise UpstreamMisbehaved(f"upstream names an invalid token server URL: {shown(realm)}")


def _host(url: URL) -> str:
    return (url.host or "").lower().rstrip(".")


def _origin(url: URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port, with the scheme's default port."""
    return url.scheme, _host(url), url.port


def _is_local(host: str) -> bool:
    """Whether a host is an IP address in any notation, or localhost, rather than a DNS name."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        # inet_aton accepts 127.1, 0x7f000001 and 2130706433, too; no top-level domain is like that.
        last = host.rpartition(".")[2]
        return last == "localhost" or last[:1].isdigit()


def _related(host: str, own: str) -> bool:
    """Whether two hosts share a registrable domain. The list takes megabytes, so it is not kept."""
    if _is_local(own) or host.split(".")[-2:] != own.split(".")[-2:]:
        return False  # a registrable domain has at least two labels
    suffixes = PublicSuffixList()
    domain = suffixes.privatesuffix(own)
    return domain is not None and domain == suffixes.privatesuffix(host)
