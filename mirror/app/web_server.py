"""The web server: the registry API before the content, with its connections and metrics."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass

from aiohttp import web

from mirror.admin.service import AdminService
from mirror.app import background
from mirror.app.build_clients import (
    build_authenticator,
    build_metrics_browsers,
    build_router,
    build_trusted_proxies,
)
from mirror.app.closing import closed
from mirror.app.content import ContentParts
from mirror.app.core import Core
from mirror.app.deferred_console import DeferredConsole
from mirror.app.upstreams import Upstreams
from mirror.settings import Settings
from mirror.statistics.recorder import Readings
from mirror.storage.store import Store
from mirror.util.log_writer import LogWriter
from mirror.util.loop_lag import LoopLag
from mirror.web.admin_listener import administering
from mirror.web.auth.authenticator import Authenticator
from mirror.web.auth.browsers import Browsers
from mirror.web.connections.certificate import Certificate
from mirror.web.connections.client_connections import ClientConnections
from mirror.web.connections.shutdown import Grace, end
from mirror.web.connections.site import Site
from mirror.web.console import OwnPages
from mirror.web.limit_headers import LimitHeaders
from mirror.web.observability.access_log import AccessLog
from mirror.web.observability.metrics import Metrics, State
from mirror.web.observability.request_figures import RequestFigures
from mirror.web.observability.request_observers import RequestObservers
from mirror.web.registry_api import RegistryApi
from mirror.web.server import Server
from mirror.web.status_pages import StatusPages

_OWN_DESCRIPTORS = 512


@dataclass(frozen=True, slots=True)
class Observers:
    """The metrics, the log writer and the measure of the event loop's lag."""

    metrics: Metrics
    log_writer: LogWriter
    lag: LoopLag


@dataclass(frozen=True, slots=True)
class Connections:
    """The bounds on connections and on their end; TLS, if there is a `certificate`.

    `bearable` is the number of connections that the limit of descriptors allows.
    """

    of_clients: ClientConnections
    bearable: int
    grace: Grace
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class WebServer:
    """The server and its parts; `metrics_browsers` guard an address for metrics only."""

    server: Server
    authenticator: Authenticator
    connections: Connections
    pages: StatusPages
    metrics_browsers: Browsers
    console: DeferredConsole


def build_connections(
    settings: Settings, certificate: Certificate | None, hurry: asyncio.Event
) -> Connections:
    """Return the connections, none of them open; `hurry` ends the grace of transfers at the end."""
    bearable = _bearable_connections()
    of_clients = ClientConnections(
        max_connections=min(settings.max_connections, bearable),
        client_connections=settings.client_connections,
        trusted_proxies=build_trusted_proxies(settings),
    )
    grace = Grace(shutdown_grace=settings.shutdown_grace, hurry=hurry)
    return Connections(of_clients, bearable, grace, certificate)


def _bearable_connections() -> int:
    """Raise the limit of descriptors to the maximum; returns the connections that it allows.

    Each connection may have a file open as well, and upstream and store need some.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return max(1, (most - _OWN_DESCRIPTORS) // 2)


def build_web_server(
    stack: AsyncExitStack,
    settings: Settings,
    core: Core,
    content: ContentParts,
    service: AdminService,
    *,
    connections: Connections,
    observers: Observers,
) -> WebServer:
    """Return the server, which does not listen yet; raises ConfigurationError.

    Its parts are closed at the end of the stack.
    """
    authenticator = closed(stack, build_authenticator(settings))
    pages = StatusPages(
        observers.metrics, core.store.trouble, apart=settings.listen_metrics is not None
    )
    console = closed(stack, DeferredConsole(settings, authenticator, service))
    server = Server(
        router=build_router(settings),
        authenticator=authenticator,
        authorizer=content.access,
        api=_build_api(core, content, authenticator),
        pages=OwnPages(pages, console if settings.admin_listen is None else None),
        observers=RequestObservers(
            AccessLog(log_format=settings.log_format, log_writer=observers.log_writer),
            observers.metrics.requests,
            RequestFigures(core.recorder),
        ),
        connections=connections.of_clients,
    )
    browsers = build_metrics_browsers(settings)
    return WebServer(server, authenticator, connections, pages, browsers, console)


def _build_api(core: Core, content: ContentParts, authenticator: Authenticator) -> RegistryApi:
    return RegistryApi(
        manifests=content.manifests,
        blobs=content.blobs,
        listings=content.listings,
        repositories=content.repositories,
        demand=core.demand,
        limits=LimitHeaders(core.budget, authenticator.trusts),
    )


def export_figures(
    core: Core,
    upstreams: Upstreams,
    content: ContentParts,
    web_server: WebServer,
    observers: Observers,
) -> None:
    """Have the metrics read the figures of all parts at each scrape."""
    observers.metrics.registry.register(web_server.console.figures)
    observers.metrics.registry.register(
        State(
            store=core.store,
            fetches=content.fetches,
            budget=core.budget,
            demand=core.demand,
            registries=upstreams.registries.values(),
            connections=web_server.connections.of_clients,
            authenticator=web_server.authenticator,
            log_writer=observers.log_writer,
            listings=content.listings,
            refresh_ahead=content.refresh_ahead,
            warm=content.warm_figures,
            lag=observers.lag,
            recorder=core.recorder,
            certificate=web_server.connections.certificate,
            secret=content.folder_key,
        )
    )


def build_readings(
    core: Core, upstreams: Upstreams, web_server: WebServer, observers: Observers
) -> Readings:
    """Return the figures of other parts that the statistics read."""
    store, connections = core.store, web_server.connections.of_clients
    return Readings(
        registries=upstreams.registries,
        asked=core.demand.asked,
        evicted=lambda: store.evicted_bytes,
        totals={
            "log_lines": lambda: observers.log_writer.dropped,
            "logins": lambda: web_server.authenticator.refused,
            "shed": lambda: connections.shed,
            "store": lambda: store.failures,
        },
    )


async def serve(
    stack: AsyncExitStack,
    settings: Settings,
    web_server: WebServer,
    listener: socket.socket,
    store: Store,
) -> None:
    """Serve clients until the end of the stack: running answers have their grace then."""
    connections = web_server.connections
    runner = web_server.server.runner(idle_timeout=settings.idle_timeout)
    stack.push_async_callback(_stop, runner, web_server, store)
    await runner.setup()
    if connections.certificate is not None:
        background.run(stack, connections.certificate.run())
    await Site(runner, listener, connections.of_clients, connections.certificate).start()


def administered(
    settings: Settings, web_server: WebServer, listener: socket.socket | None
) -> AbstractAsyncContextManager[None]:
    """Return the context in which the page and the API are served apart, on a listener if any."""
    connections = web_server.connections
    return administering(
        listener,
        console=web_server.console,
        status_pages=web_server.pages,
        browsers=web_server.metrics_browsers,
        recorder=web_server.server.recorder,
        trusted_proxies=build_trusted_proxies(settings),
        certificate=connections.certificate,
        hurry=connections.grace.hurry,
    )


async def _stop(runner: web.ServerRunner, web_server: WebServer, store: Store) -> None:
    """Stop serving; from now on, the store's work on the disk is bounded in time."""
    connections = web_server.connections
    try:
        await web_server.console.stop()
        await end(runner, connections.of_clients, connections.grace)
    finally:
        store.hurry()
