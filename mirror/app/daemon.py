"""The daemon: builds all parts from the settings, connects them, and stops them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from yarl import URL

from mirror.admin.socket_server import controlled
from mirror.app import background
from mirror.app.core import Clocks
from mirror.app.deferred_whole import defer_whole
from mirror.app.listeners import build_certificate, open_listeners
from mirror.app.max_size import follow_file_system
from mirror.app.parts import Parts, build_parts, keep_pins
from mirror.app.reload import Reloader
from mirror.app.schedules import Scheduler
from mirror.app.upstream_plans import UpstreamPlans
from mirror.app.web_server import (
    Observers,
    WebServer,
    administered,
    build_connections,
    serve,
)
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.settings import Address, Loaded, Settings
from mirror.settings.display import Origins
from mirror.settings.sources import NOTHING, Sources
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
    scheduler: Scheduler
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
    read: Callable[[], Loaded] | None = None,
    sources: Sources = NOTHING,
) -> AsyncIterator[Daemon]:
    """Run a mirror for as long as the context lasts.

    `clocks` are the system's if they are None; `log_writer` takes the access log (the daemon makes
    one if it is None); `hurry` ends the grace of transfers at the end; `read` reads the settings
    again, for a reload; `sources` are those of the settings. Raises ConfigurationError where an
    address is not available or a password cannot be read, StoreError where the data folder cannot
    be used.
    """
    async with AsyncExitStack() as stack:
        log_writer = log_writer or stack.enter_context(logs.standard_error(settings.log_format))
        observers = Observers(Metrics(), log_writer, LoopLag())
        certificate = build_certificate(settings)
        plans = UpstreamPlans(settings)
        listeners = open_listeners(stack, settings)
        connections = build_connections(settings, certificate, hurry or asyncio.Event())

        parts = await build_parts(
            stack,
            settings,
            plans=plans,
            connections=connections,
            observers=observers,
            clocks=clocks,
        )
        # Not before: a start has long steps, and serves no client yet.
        stack.enter_context(observers.lag)
        read = read or partial(Loaded, sources, settings)
        reloader = Reloader(settings, Origins(sources), read, parts)
        parts.service.whole = defer_whole(stack, reloader, read)
        _begin_jobs(stack, parts, reloader)
        await stack.enter_async_context(_taking_orders(parts))
        await stack.enter_async_context(_watched(parts.web_server, listeners.metrics))
        await stack.enter_async_context(administered(settings, parts.web_server, listeners.admin))
        await serve(stack, settings, parts.web_server, listeners.clients, parts.core.store)
        stack.push_async_callback(reloader.close)
        yield Daemon(
            address=Address(*listeners.clients.getsockname()[:2]),
            store=parts.core.store,
            fetches=parts.content.fetches,
            lag=observers.lag,
            reloader=reloader,
            scheduler=parts.scheduler,
            certificate=certificate,
        )


def _begin_jobs(stack: AsyncExitStack, parts: Parts, reloader: Reloader) -> None:
    core = parts.core
    background.run(
        stack,
        core.store.keep_books(),
        parts.web_server.authenticator.run(),
        background.keep_count(core.budget, core.demand),
        core.recorder.run(),
        parts.limit_poller.run(),
        parts.scheduler.run(),
        keep_pins(parts),
        parts.content.refresh_ahead.run(),
        follow_file_system(lambda: reloader.settings.max_size, core.store),
        background.feed_watchdog(),
    )


def _taking_orders(parts: Parts) -> AbstractAsyncContextManager[None]:
    store = parts.core.store
    return controlled(store.root, parts.service, store.trouble)


def _watched(
    web_server: WebServer, listener: socket.socket | None
) -> AbstractAsyncContextManager[None]:
    hurry = web_server.connections.grace.hurry
    return watching(listener, web_server.pages, web_server.metrics_browsers, hurry)
