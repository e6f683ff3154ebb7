"""The daemon: builds all parts, connects them, and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from yarl import URL

from mirror.access.publicity import Publicity
from mirror.admin.service import AdminService
from mirror.admin.socket_server import controlled
from mirror.app import builders, conversions, quota
from mirror.app.builders import closed
from mirror.app.reload import Parts, Reloader
from mirror.app.systemd import notify, watchdog_interval
from mirror.app.upstreams import UpstreamPlans, Upstreams
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand
from mirror.budget.ledger import Ledger
from mirror.budget.limit_poller import LimitPoller
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.content.blobs.possession import Possession
from mirror.content.blobs.service import BlobService
from mirror.content.listings.known_tags import KnownTags
from mirror.content.listings.service import ListingService
from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.manifests.tags import Tags
from mirror.content.memory_cache import MemoryCache
from mirror.content.repositories import Repositories
from mirror.settings import Address, Settings
from mirror.storage.secret import folder_key
from mirror.storage.startup import open_store
from mirror.storage.store import Store
from mirror.util import logs
from mirror.util.log_writer import LogWriter
from mirror.util.loop_lag import LoopLag
from mirror.web.connections.certificate import Certificate
from mirror.web.connections.pool import ConnectionPool
from mirror.web.connections.shutdown import Grace, end
from mirror.web.connections.site import Site
from mirror.web.limit_headers import LimitHeaders
from mirror.web.monitoring import watching
from mirror.web.observability.access_log import AccessLog
from mirror.web.observability.metrics import Metrics, State
from mirror.web.registry_api import RegistryApi
from mirror.web.server import Server
from mirror.web.status_pages import StatusPages

_PRUNE_EVERY = 3600  # seconds
_OWN_DESCRIPTORS = 512


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


async def _open_store(settings: Settings) -> Store:
    folder = settings.data_dir.absolute()
    return await open_store(folder, quota.in_bytes(settings.max_size, folder))


@asynccontextmanager
async def running(
    settings: Settings,
    timer: Callable[[], float] = time.monotonic,
    log_writer: LogWriter | None = None,
    hurry: asyncio.Event | None = None,
    read: Callable[[], Settings] | None = None,
) -> AsyncIterator[Daemon]:
    """Run a mirror for as long as the context lasts.

    `timer` counts the seconds over which upstreams' denials are believed; `log_writer` takes the
    access log (the daemon makes one if it is None); `hurry` ends the grace of transfers at the end;
    `read` reads the settings again, for a reload. Raises ConfigurationError where an address is not
    available or a password cannot be read, StoreError where the data folder cannot be used.
    """
    async with AsyncExitStack() as stack:
        grace = Grace(shutdown_grace=settings.shutdown_grace, hurry=hurry or asyncio.Event())
        log_writer = log_writer or stack.enter_context(logs.standard_error(settings.log_format))
        lag = LoopLag()
        certificate = builders.certificate(settings)
        plans = UpstreamPlans(settings)
        listener, watched = builders.listeners(stack, settings)
        connections = builders.connections(settings, _bearable_connections())

        store = closed(stack, await _open_store(settings))
        ledger = Ledger(store.index, ledger_keep=settings.ledger_keep)
        budget, demand = Budget(ledger, conversions.budgets(settings)), Demand(ledger)
        await budget.load()
        await demand.load(budget.longest)
        stack.callback(demand.tick)
        tags = Tags(store.index, tag_ttl=settings.tag_ttl, missing_ttl=settings.missing_ttl)
        await tags.load()

        metrics = Metrics()

        publicity = Publicity(plans.accounts, store.index, store.catalog.holds, timer)
        await publicity.load()
        upstreams = await _open_upstreams(
            stack, Upstreams(metrics.answer, publicity, budget), plans
        )
        registries = upstreams.registries
        access = closed(stack, builders.access(settings, upstreams, publicity, store.catalog))
        clients = closed(stack, builders.clients(settings))
        memory = MemoryCache(memory_cache=settings.memory_cache)
        manifests = closed(
            stack,
            ManifestResolver(
                registries, budget, store, tags, memory, stale_after=settings.stale_after
            ),
        )
        secret = await store.run(folder_key, store.root)
        possession = closed(stack, Possession(store, secret))
        fetches = FetchPool(
            registries,
            store,
            possession,
            memory,
            abandon_after=settings.abandon_after,
            max_fetches=settings.max_fetches,
        )
        blobs = closed(
            stack,
            BlobService(
                registries, store, fetches, possession, memory, missing_ttl=settings.missing_ttl
            ),
        )
        listings = closed(
            stack,
            ListingService(
                registries,
                manifests,
                KnownTags(tags),
                tag_ttl=settings.tag_ttl,
                missing_ttl=settings.missing_ttl,
                stale_after=settings.stale_after,
            ),
        )

        metrics.registry.register(
            State(
                store,
                fetches,
                budget,
                demand,
                registries.values(),
                connections,
                clients,
                log_writer,
                listings,
                lag,
                secret,
            )
        )
        repositories = closed(stack, Repositories(store.catalog, access))
        own = StatusPages(metrics, store.trouble, apart=settings.listen_metrics is not None)
        server = Server(
            builders.router(settings),
            clients,
            access,
            RegistryApi(
                manifests,
                blobs,
                listings,
                repositories,
                demand,
                LimitHeaders(budget, clients.trusts),
            ),
            own,
            metrics,
            AccessLog(log_format=settings.log_format, log_writer=log_writer),
            connections,
        )
        stack.enter_context(lag)  # not before: a start has long steps, and serves no client yet
        checks = LimitPoller(registries, budget, limit_check=settings.limit_check)
        watchers = builders.watchers_browsers(settings)
        reloader = Reloader(
            settings,
            read or (lambda: settings),
            Parts(
                upstreams,
                publicity,
                budget,
                checks,
                store,
                manifests,
                blobs,
                fetches,
                clients,
                repositories,
                watchers,
                server,
                certificate,
                connections,
                _bearable_connections(),
                grace,
            ),
        )
        _have_run(
            stack,
            store.keep_books(),
            clients.run(),
            _keep_count(budget, demand),
            checks.run(),
            quota.follow(lambda: reloader.settings.max_size, store),
            _feed_watchdog(),
        )
        await stack.enter_async_context(
            controlled(
                store.root,
                AdminService(store, tags, memory, budget, demand),
                store.trouble,
                reloader.reload,
            )
        )
        await stack.enter_async_context(watching(watched, own, watchers, grace.hurry))
        runner = server.runner(idle_timeout=settings.idle_timeout)
        stack.push_async_callback(_stop, runner, connections, store, grace)
        await _listen(stack, runner, listener, connections, certificate)
        stack.push_async_callback(reloader.close)
        yield Daemon(
            Address(*listener.getsockname()[:2]), store, fetches, lag, reloader, certificate
        )


async def _open_upstreams(
    stack: AsyncExitStack, upstreams: Upstreams, plans: UpstreamPlans
) -> Upstreams:
    closed(stack, upstreams)
    upstreams.commit(plans, await upstreams.prepare(plans))
    return upstreams


def _have_run(stack: AsyncExitStack, *jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs until the end."""
    for job in jobs:
        stack.push_async_callback(_cancel, asyncio.create_task(job))


async def _listen(
    stack: AsyncExitStack,
    runner: web.ServerRunner,
    listener: socket.socket,
    connections: ConnectionPool,
    certificate: Certificate | None,
) -> None:
    await runner.setup()
    if certificate is not None:
        stack.push_async_callback(_cancel, asyncio.create_task(certificate.run()))
    await Site(runner, listener, connections, certificate).start()


async def _stop(
    runner: web.ServerRunner, connections: ConnectionPool, store: Store, grace: Grace
) -> None:
    """Stop serving; from now on, the store's work on the disk is bounded in time."""
    try:
        await end(runner, connections, grace)
    finally:
        store.hurry()


async def _keep_count(budget: Budget, demand: Demand) -> None:
    """Log gates that shut or open, enter the requested pulls, and prune the ledger, for ever."""
    for seconds in itertools.count(1):
        await asyncio.sleep(1)
        budget.tick()
        demand.tick()
        if seconds % _PRUNE_EVERY == 0 or budget.ledger.grown:
            await budget.prune()


async def _feed_watchdog() -> None:
    """Notify systemd's watchdog from the event loop, if there is one."""
    interval = watchdog_interval()
    while interval:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _bearable_connections() -> int:
    """Raise the limit of descriptors to the maximum; returns the connections that it allows.

    Each connection may have a file open as well, and upstream and store need some.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return max(1, (most - _OWN_DESCRIPTORS) // 2)
