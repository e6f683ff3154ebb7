"""Protection against browsers: web pages may not use the mirror through their reader's browser."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy, istr

from mirror.oci.errors import NotAllowed, shown
from mirror.web.auth.host_names import HostNames
from mirror.web.router import host_of

_SITE = istr("Sec-Fetch-Site")  # looked up faster than a plain string
_OWN_SITES = (None, "none", "same-origin")
_PROBES = ("/healthz", "/readyz")


class Browsers:
    """Refuses requests that a page of another site makes through its reader's browser.

    Container clients send neither Origin nor Sec-Fetch-Site (Fetch, "Origin header"; Fetch
    Metadata, 2). DNS rebinding resolves a page's name to the mirror's address: to the browser both
    are the same site then, and only the name in Host gives the page away. So a browser must use an
    address, `localhost`, or one of `names`. With `strict` every client must, except for health
    probes.
    """

    def __init__(self, names: Collection[str], *, strict: bool) -> None:
        self._names = HostNames(names)
        self._strict = strict

    def __repr__(self) -> str:
        return f"<Browsers: {self._names!r}{', no others' * self._strict}>"

    def change(self, names: Collection[str], *, strict: bool) -> None:
        """Replace the names, after a reload."""
        self._names = HostNames(names)
        self._strict = strict

    def takes(self, host: str) -> bool:
        """Whether a request that is not a browser's may name this host; its path is no probe's."""
        return not self._strict or self._names.know(host.lower())

    def check(self, request: web.BaseRequest) -> None:
        """Check a request before any work is done for it; raises NotAllowed."""
        headers = request.headers
        site = headers.get(_SITE)
        if hdrs.ORIGIN in headers or site not in _OWN_SITES:
            raise NotAllowed("a page of another site may not use this mirror")
        if not (self._strict or _is_browsers(headers)):
            return
        if request.raw_path in _PROBES:
            return
        host = host_of(request.raw_path, headers.get(hdrs.HOST, ""))
        if not self._names.know(host):
            raise NotAllowed(f"{shown(host)} is not a name of this mirror: see host_names")


def _is_browsers(headers: CIMultiDictProxy[str]) -> bool:
    """Whether a request may be a browser's: to a name over plain HTTP it has Accept-Language only.

    Script runtimes send that header, too. They are told apart by headers that a page can neither
    set nor omit (Fetch, "forbidden request-header"): Node sends Sec-Fetch-Mode, which browsers send
    with Sec-Fetch-Site only (Fetch Metadata, 2), and Deno accepts Brotli without deflate.
    """
    if _SITE in headers:
        return True
    if hdrs.ACCEPT_LANGUAGE not in headers or "Sec-Fetch-Mode" in headers:
        return False
    taken = headers.get(hdrs.ACCEPT_ENCODING, "").lower().replace(",", " ").split()
    return "br" not in taken or any(each.startswith("deflate") for each in taken)
