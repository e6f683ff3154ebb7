"""The server: routes each request to its reply, which is logged and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

from mirror.access.authorizer import Authorizer
from mirror.content.outcome import Outcome
from mirror.oci.errors import (
    ClientGone,
    NameUnknown,
    NotAllowed,
    PathUnknown,
    RegistryError,
    Unsupported,
    shown,
)
from mirror.upstream.connection_queue import CLIENT
from mirror.upstream.publicity_check import ProbedContent
from mirror.util import trace
from mirror.util.request_id import HEADER, RequestIds
from mirror.util.units import human
from mirror.web.auth.authenticator import Authenticator
from mirror.web.connections import shutdown
from mirror.web.connections.client_connections import ClientConnections
from mirror.web.connections.http_protocol import Listener
from mirror.web.console import EventReply, OwnPages
from mirror.web.error_reply import refusal
from mirror.web.instant_answers import InstantAnswers
from mirror.web.observability.access_log import line_of
from mirror.web.observability.request_observers import RequestObservers
from mirror.web.registry_api import RegistryApi
from mirror.web.reply import CUT, Reply
from mirror.web.request_keys import IDENTITY, REQUEST_ID, ROUTE, TRACEPARENT
from mirror.web.router import (
    BlobPath,
    ConsolePath,
    ManifestPath,
    OwnPath,
    ReferrersPath,
    RepositoryPath,
    Route,
    Router,
    StatusPath,
)

_log = logging.getLogger(__name__)

_MAX_LINE = 16 * 1024  # bytes of a request line or a header


class Server:
    """Answers requests, through the parts for each kind of route."""

    def __init__(
        self,
        router: Router,
        authenticator: Authenticator,
        authorizer: Authorizer,
        api: RegistryApi,
        pages: OwnPages,
        observers: RequestObservers,
        connections: ClientConnections,
    ) -> None:
        self.router = router  # replaced by a reload
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._api = api
        self._pages = pages
        self._log = observers.log
        self._metrics = observers.metrics
        self._figures = observers.figures
        self._connections = connections
        self._ids = RequestIds()
        self._instant = InstantAnswers(
            lambda: self.router, authenticator, authorizer, api, observers, self._ids
        )

    def runner(self, idle_timeout: float) -> web.ServerRunner:
        """Return the runner that listens, to be ended by `shutdown.end`.

        `idle_timeout` is the time, in seconds, that a connection may stay without a whole request.
        """
        server = Listener(
            self.handle,
            self._connections,
            self._ids,
            self._instant,
            access_log=_log,
            access_log_class=self.recorder(self._connections),
            keepalive_timeout=idle_timeout,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
            auto_decompress=False,
            lingering_time=0,
        )
        return web.ServerRunner(server, shutdown_timeout=shutdown.CUT)

    def recorder(self, connections: ClientConnections) -> type[AbstractAccessLogger]:
        """Return the hook that logs and counts each reply of a listener."""
        return _hook(partial(self._done, connections))

    async def handle(self, request: web.BaseRequest) -> Reply:
        """Answer one request; every failure is answered with an error document."""
        self._connections.busy(request)
        request[REQUEST_ID] = self._ids.take(request.headers.get(HEADER))
        traces = request.headers.getall(trace.HEADER, ())
        request[TRACEPARENT] = trace.take(traces) if traces else ""
        try:
            return await self._answer(request)
        except RegistryError as error:
            route = request.get(ROUTE)
            return refusal(error, namespace=route.namespace if route else "")
        except ConnectionResetError:  # for the log only: the client has left
            return refusal(ClientGone("the client left before its answer began"), last=True)
        except Exception:  # noqa: BLE001 - the last resort, and it is logged
            _log.exception("unexpected failure of a request: %s", shown(request.raw_path))
            return refusal(RegistryError("the mirror failed; its log has the reason"))

    async def _answer(self, request: web.BaseRequest) -> Reply:
        router = self.router
        try:
            route = self._accepted(request)
        except RegistryError as error:
            raise await self._refused(request, error) from None
        if isinstance(route, OwnPath):
            return await self._own(request, route)
        identity = request[IDENTITY] = await self._authenticator.identify(request)
        CLIENT.set(identity.client)
        if isinstance(route, RepositoryPath):
            await self._authorizer.admit(route.repository, identity, lambda: _probed(route))
        reply = await self._api.answer(request, route, identity)
        self._instant.remember(request, router, route, identity, reply)
        return reply

    def _accepted(self, request: web.BaseRequest) -> Route:
        """Return the route of an acceptable request; raises RegistryError.

        The route is parsed here and nowhere else, and the request carries it: a refused request is
        logged by its route, too, and a reload may replace the router meanwhile.
        """
        route: Route | RegistryError
        try:
            route = request[ROUTE] = self._parsed(request)
        except RegistryError as error:
            route = error
        if isinstance(route, ConsolePath):  # its checks are separate
            if self._pages.console is not None:
                return route
            del request[ROUTE]
            route = PathUnknown(f"nothing is served at {shown(route.path)}")
        self._authenticator.browsers.check(request)
        if request.method not in ("GET", "HEAD"):
            raise Unsupported(f"{request.method} is not supported: a mirror only serves pulls")
        if isinstance(route, RegistryError):
            raise route
        return route

    def _parsed(self, request: web.BaseRequest) -> Route:
        router = self.router
        if router.wants_host:
            return router.read(request.raw_path, request.headers.get(hdrs.HOST, ""))
        return router.read(request.raw_path)

    async def _own(self, request: web.BaseRequest, path: StatusPath | ConsolePath) -> Reply:
        if isinstance(path, StatusPath):
            return await self._page(request, path)
        if self._pages.console is None:
            raise PathUnknown(f"nothing is served at {shown(path.path)}")
        reply = await self._pages.console.answer(request, path)
        if isinstance(reply, EventReply):  # makes room like an idle connection
            self._connections.rest(request)
        return reply

    async def _page(self, request: web.BaseRequest, page: StatusPath) -> Reply:
        """Answer with a page for operators and monitors.

        Health probes have no rate limit: otherwise other clients behind their address could cause
        a restart of the mirror.
        """
        if page.name == "metrics":
            self._authenticator.watch(request)
        return await self._pages.status.get(page.name)

    async def _refused(self, request: web.BaseRequest, error: RegistryError) -> RegistryError:
        """Count a refused request in the client's rate, too; returns the error to answer with.

        Raises Unauthorized, NotAllowed, or ClientTooFast. Clients without a login are told no
        names of upstreams if logins are configured.
        """
        if isinstance(error, NotAllowed):
            self._authenticator.take(request)
            return error
        identity = request[IDENTITY] = await self._authenticator.identify(request)
        if isinstance(error, NameUnknown) and not self._authenticator.trusts(identity):
            return NameUnknown("no such upstream here")
        return error

    def _done(
        self,
        connections: ClientConnections,
        request: web.BaseRequest,
        reply: web.StreamResponse,
        seconds: float,
    ) -> None:
        """Log and count a reply, complete or not."""
        if not isinstance(reply, Reply):  # aiohttp's own, to invalid HTTP
            connections.rest(request)
            self._metrics.add("other", Outcome.ERROR, 0, seconds)
            return
        route = request.get(ROUTE)
        line = line_of(request, route, reply, seconds)
        self._log.add(line)
        if reply.broken == CUT:  # its connection is closed
            what = f"{line.method} {line.target}"
            _log.warning("cut: %s, %s, %s", line.client, what, _how_far(reply))
        else:
            connections.rest(request)
        sent = reply.sent if reply.status < 400 else 0
        self._metrics.add(line.kind, reply.outcome, sent, seconds)
        if isinstance(route, RepositoryPath):
            self._figures.add(route, line, reply)


def _how_far(reply: Reply) -> str:
    """Return the part of a cut reply that was sent, as text."""
    if not reply.sent:
        return "before its first byte"
    of_all = f" of {human(reply.length)}" if reply.length is not None else ""
    return f"after {human(reply.sent)}{of_all}"


def _probed(route: RepositoryPath) -> ProbedContent | None:
    """Return the content to ask upstream about if access to the repository is in doubt."""
    match route:
        case ManifestPath():
            return ProbedContent("manifest", route.reference)
        case BlobPath():
            return ProbedContent("blob", route.digest)
        case ReferrersPath():
            return ProbedContent("manifest", route.digest)
    return None


def _hook(
    done: Callable[[web.BaseRequest, web.StreamResponse, float], None],
) -> type[AbstractAccessLogger]:
    """Return an access logger that calls `done`: aiohttp's only hook that runs after the body."""

    class Hook(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            done(request, response, time)

    return Hook
