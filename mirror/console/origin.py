"""The origin of requests: pages of other sites may not use the console through a browser."""

from __future__ import annotations

import re
from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from mirror.console.problem import Problem
from mirror.oci.errors import shown
from mirror.web.auth.host_names import HostNames
from mirror.web.router import host_of

SAFE = ("GET", "HEAD")
_SITE = "Sec-Fetch-Site"
_HOST = re.compile(r"(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_LAST_PORT = 65_535


class OwnHosts:
    """The hosts that the console answers to: addresses, `localhost`, and given names.

    DNS rebinding makes a page's name resolve to the mirror: to the browser, page and mirror are
    the same site then, and only the name gives the page away.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = HostNames(names)

    def __repr__(self) -> str:
        return f"<OwnHosts: {self._names!r}>"

    def change(self, names: Collection[str]) -> None:
        """Replace the names, after a reload."""
        self._names = HostNames(names)

    def check(self, request: web.BaseRequest) -> str:
        """Return the host that a request is sent to; raises Problem for another's name."""
        host = host_of(request.raw_path, request.headers.get(hdrs.HOST, ""))
        if _is_written_well(host) and self._names.know(host):
            return host
        raise Problem(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"{shown(host)} is not a name of this mirror: use its address or localhost, or add the "
            "name to admin_hosts",
            bare=True,
        )


def _is_written_well(host: str) -> bool:
    """Whether a host is a name or an address, perhaps with a port (RFC 9110, 7.2)."""
    found = _HOST.fullmatch(host)
    return found is not None and int(found["port"] or 0) <= _LAST_PORT


def check_origin(request: web.BaseRequest, host: str) -> None:
    """Refuse a request of another site's page; raises Problem.

    An action must come from the console's own page, or from no page. Of other requests, a browser
    may follow a link from another site, but no page may use the answer.
    """
    headers = request.headers
    if request.method in SAFE and hdrs.ORIGIN not in headers:
        foreign = headers.get(_SITE) in ("cross-site", "same-site") and not _is_visit(headers)
    else:
        foreign = not _same_origin(headers, host)
    if foreign:
        raise _foreign()


def check_own(request: web.BaseRequest) -> None:
    """Refuse a request that a link of another site leads to, too; raises Problem.

    Its origin has been checked (`check_origin`). A browser that sends no Sec-Fetch-Site does not
    say where a link was.
    """
    if request.headers.get(_SITE) not in (None, "same-origin", "none"):
        raise _foreign()


def _foreign() -> Problem:
    detail = "a page of another site may not use this mirror"
    return Problem(HTTPStatus.FORBIDDEN, detail, bare=True)


def _is_visit(headers: CIMultiDictProxy[str]) -> bool:
    """Whether a browser shows the answer to its reader, and to no page."""
    return headers.get("Sec-Fetch-Mode") == "navigate" and (
        headers.get("Sec-Fetch-Dest") == "document"
    )


def _same_origin(headers: CIMultiDictProxy[str], host: str) -> bool:
    """Whether a request comes from the console's own page, or from a program that is no browser.

    Browsers send Sec-Fetch-Site over TLS and to loopback addresses only, and Origin with each
    POST. Neither can be set by a page (Fetch, "forbidden request-header").
    """
    if (site := headers.get(_SITE)) is not None and site not in ("same-origin", "none"):
        return False
    if (origin := headers.get(hdrs.ORIGIN)) is None:
        return True
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host
    except ValueError:
        return False
