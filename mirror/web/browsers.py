"""Browsers: a page that somebody has open is no client, whatever machine it is open on."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy, istr

from mirror.oci.errors import NotAllowed, shown
from mirror.web.host_names import HostNames
from mirror.web.route import host_of

_SITE = istr("Sec-Fetch-Site")  # looked up faster than a plain string
_OWN_SITES = (None, "none", "same-origin")
_PROBES = ("/healthz", "/readyz")


class Browsers:
    """Refuses what a page of another site has its reader's browser ask for.

    Container clients send neither Origin nor Sec-Fetch-Site (Fetch, "Origin header"; Fetch
    Metadata, 2). A page whose name is made to mean the mirror's address (DNS rebinding) is of the
    mirror's own site to its browser, and is told by the name in Host alone: so a browser has to use
    an address, `localhost`, or one of `names`. With `strict` so does everybody, but for the probes
    of machines.
    """

    def __init__(self, names: Collection[str], *, strict: bool) -> None:
        self._names = HostNames(names)
        self._strict = strict

    def __repr__(self) -> str:
        return f"<Browsers: {self._names!r}{', no others' * self._strict}>"

    def change(self, names: Collection[str], *, strict: bool) -> None:
        """Have other names."""
        self._names = HostNames(names)
        self._strict = strict

    def check(self, request: web.BaseRequest) -> None:
        """Look at a request before anything is asked for it; raises NotAllowed."""
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
            raise NotAllowed(f"{shown(host)} is no name of this mirror: see host_names")


def _is_browsers(headers: CIMultiDictProxy[str]) -> bool:
    """Whether a request may be a browser's: to a name over plain HTTP it has Accept-Language only.

    Runtimes for scripts send that, too. They are told by what no page can have its browser say or
    leave out (Fetch, "forbidden request-header"): Node sends Sec-Fetch-Mode, which browsers send
    with Sec-Fetch-Site only (Fetch Metadata, 2), and Deno takes Brotli without deflate.
    """
    if _SITE in headers:
        return True
    if hdrs.ACCEPT_LANGUAGE not in headers or "Sec-Fetch-Mode" in headers:
        return False
    taken = headers.get(hdrs.ACCEPT_ENCODING, "").lower().replace(",", " ").split()
    return "br" not in taken or any(each.startswith("deflate") for each in taken)
