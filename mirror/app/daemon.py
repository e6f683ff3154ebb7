"""The daemon: builds all parts from the settings, connects them, and stops them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from yarl import URL

from mirror.admin.service import AdminService
from mirror.admin.socket_server import controlled
from mirror.app import background, quota
from mirror.app.content import build_content
from mirror.app.core import Clocks, Core, open_core
from mirror.app.listeners import build_certificate, open_listeners
from mirror.app.reload import Parts, Reloader
from mirror.app.upstream_plans import UpstreamPlans
from mirror.app.upstreams import open_upstreams
from mirror.app.web_server import (
    Observers,
    build_connections,
    build_web_server,
    export_figures,
    serve,
)
from mirror.budget.limit_poller import LimitPoller
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.settings import Address, Settings
from mirror.storage.store import Store
from mirror.util import logs
from mirror.util.log_writer import LogWriter
from mirror.util.loop_lag import LoopLag
from mirror.web.connections.certificate import Certificate
from mirror.web.monitoring import watching
from mirror.web.observability.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running mirror: its address, store, fetches and lag."""

    address: Address
    store: Store
    fetches: FetchPool
    lag: LoopLag
    reloader: Reloader
    certificate: Certificate | None = None

    @property
    def url(self) -> URL:
        """Where clients reach the mirror."""
        scheme = "http" if self.certificate is None else "https"
        return URL.build(scheme=scheme, host=self.address.host, port=self.address.port)


@asynccontextmanager
async def running(
    settings: Settings,
    clocks: Clocks | None = None,
    log_writer: LogWriter | None = None,
    hurry: asyncio.Event | None = None,
    read: Callable[[], Settings] | None = None,
) -> AsyncIterator[Daemon]:
    """Run a mirror for as long as the context lasts.

    `clocks` are the system's if they are None; `log_writer` takes the access log (the daemon makes
    one if it is None); `hurry` ends the grace of transfers at the end; `read` reads the settings
    again, for a reload. Raises ConfigurationError where an address is not available or a password
    cannot be read, StoreError where the data folder cannot be used.
    """
    async with AsyncExitStack() as stack:
        log_writer = log_writer or stack.enter_context(logs.standard_error(settings.log_format))
        observers = Observers(Metrics(), log_writer, LoopLag())
        certificate = build_certificate(settings)
        plans = UpstreamPlans(settings)
        listeners = open_listeners(stack, settings)
        connections = build_connections(settings, certificate, hurry or asyncio.Event())

        folder = settings.data_dir.absolute()
        core = await stack.enter_async_context(open_core(settings, folder, clocks))
        stack.callback(core.demand.tick)
        upstreams = await open_upstreams(stack, core, plans, observers.metrics.answer)
        content = await build_content(stack, settings, core, upstreams)
        web_server = build_web_server(
            stack, settings, core, content, connections=connections, observers=observers
        )
        export_figures(core, upstreams, content, web_server, observers)

        # Not before: a start has long steps, and serves no client yet.
        stack.enter_context(observers.lag)
        poller = LimitPoller(upstreams.registries, core.budget, limit_check=settings.limit_check)
        parts = Parts(core, upstreams, content, web_server, poller)
        reloader = Reloader(settings, read or (lambda: settings), parts)
        _begin_jobs(stack, parts, reloader)
        await stack.enter_async_context(_taking_orders(core, reloader))
        await stack.enter_async_context(
            watching(
                listeners.metrics, web_server.pages, web_server.watchers, connections.grace.hurry
            )
        )
        await serve(stack, settings, web_server, listeners.clients, core.store)
        stack.push_async_callback(reloader.close)
        address = Address(*listeners.clients.getsockname()[:2])
        yield Daemon(address, core.store, content.fetches, observers.lag, reloader, certificate)


def _begin_jobs(stack: AsyncExitStack, parts: Parts, reloader: Reloader) -> None:
    core = parts.core
    background.run(
        stack,
        core.store.keep_books(),
        parts.web_server.clients.run(),
        background.keep_count(core.budget, core.demand),
        parts.limit_poller.run(),
        quota.follow(lambda: reloader.settings.max_size, core.store),
        background.feed_watchdog(),
    )


def _taking_orders(core: Core, reloader: Reloader) -> AbstractAsyncContextManager[None]:
    store = core.store
    service = AdminService(store, core.tags, core.memory, core.budget, core.demand)
    return controlled(store.root, service, store.trouble, reloader.reload)
