"""Instant answers: known requests for content in memory, answered before they are parsed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aiohttp import hdrs, web

from mirror.access.authorizer import Authorizer
from mirror.content.outcome import Outcome
from mirror.identity.client import ClientIdentity
from mirror.util.request_id import RequestIds
from mirror.web.auth.authenticator import Authenticator
from mirror.web.connections.request_heads import whole_head_of
from mirror.web.known_requests import KnownRequest, KnownRequests, is_plain
from mirror.web.observability.access_log import HitLine, line_of
from mirror.web.observability.request_observers import RequestObservers
from mirror.web.registry_api import RegistryApi
from mirror.web.reply import UNDIVIDED, Reply, head
from mirror.web.router import BlobPath, ManifestPath, Route, Router


class InstantAnswer(NamedTuple):
    """The bytes of a whole answer, `sent` of them its body, and the id of its request."""

    data: bytes
    sent: int
    request_id: str


class InstantAnswers:
    """Answers known requests of clients without a login, from memory.

    Only the parsing is remembered, never an answer: each request passes the checks, the look-ups
    and the counts that any other passes, through the same methods. Where one of them has to wait,
    refuses, or finds nothing in memory, there is no instant answer, and the request is parsed.
    `router` returns the router of this moment.
    """

    def __init__(
        self,
        router: Callable[[], Router],
        authenticator: Authenticator,
        authorizer: Authorizer,
        api: RegistryApi,
        observers: RequestObservers,
        ids: RequestIds,
    ) -> None:
        self._router = router
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._api = api
        self._log = observers.log
        self._metrics = observers.metrics
        self._figures = observers.figures
        self._ids = ids
        self._known = KnownRequests()
        self._known_by: Router | None = None
        self.find = self._known.get

    def __repr__(self) -> str:
        return f"<InstantAnswers to {self._known!r}>"

    def remember(
        self,
        request: web.BaseRequest,
        router: Router,
        route: Route,
        identity: ClientIdentity,
        reply: Reply,
    ) -> None:
        """Remember a request that was answered from the cache, if the next may be answered at once.

        `router` made the route; a reload may have replaced it meanwhile. Requests with credentials
        stay unknown: no table keeps those. Nor are requests kept for content that is too large for
        an instant answer: those for layers would evict all others.
        """
        whole = whole_head_of(request)
        if whole is None or reply.status != 200 or reply.outcome is not Outcome.HIT:
            return
        if router is not self._router() or reply.length is None or reply.length > UNDIVIDED:
            return
        if not isinstance(route, ManifestPath | BlobPath) or identity.name is not None:
            return
        if isinstance(route, BlobPath) and request.method != hdrs.METH_GET:
            return
        if is_plain(request):
            self._forget_routes_before(router)
            line = line_of(request, route, reply, 0.0)
            host = request.headers.get(hdrs.HOST, "")
            known = KnownRequest(len(whole), route, line.method, host, line, HitLine(line))
            self._known.add(whole, known)

    def _forget_routes_before(self, router: Router) -> None:
        """Forget all requests with the routes of a router that a reload has replaced."""
        if self._known_by is not router:
            self._known.clear()
            self._known_by = router

    def answer(self, known: KnownRequest, client: str) -> InstantAnswer | None:
        """Return the answer to a client's request, which counts as answered; None if there is none.

        `client` is the address of a client without a certificate.
        """
        if self._known_by is not self._router():
            return None
        if not self._authenticator.browsers.takes(known.host):
            return None
        identity = self._authenticator.anonymous(client)
        if identity is None or not self._authorizer.admits(known.route.repository, identity):
            return None
        found = self._api.at_once(known.route, identity, known.method)
        if found is None:
            return None
        self._authenticator.count(client)
        request_id = self._ids.new()
        lines, body = found
        beginning = head(200, f"{lines}Content-Length: {len(body)}\r\n", request_id)
        if known.method == hdrs.METH_HEAD:
            return InstantAnswer(beginning, 0, request_id)
        return InstantAnswer(beginning + body, len(body), request_id)

    def done(self, known: KnownRequest, answer: InstantAnswer, client: str, seconds: float) -> None:
        """Log and count an answer."""
        line, sent = known.line, answer.sent
        self._log.add_hit(known.hit, client, sent, seconds, answer.request_id)
        self._metrics.add(line.kind, Outcome.HIT, sent, seconds)
        self._metrics.instant += 1
        self._figures.add_hit(known.route, line, client, sent, seconds)
