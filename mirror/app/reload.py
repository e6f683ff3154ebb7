"""Reload: the differences between settings, and how a running mirror applies them, all or none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pydantic import BaseModel

from mirror.access.publicity import Publicity
from mirror.admin.messages import Record, Refused, Reloaded, Unusable
from mirror.app import builders, conversions, quota
from mirror.app.upstreams import Reached, UpstreamPlans, Upstreams
from mirror.budget.budget import Budget
from mirror.budget.limit_poller import LimitPoller
from mirror.content.blobs.fetch_pool import FetchPool
from mirror.content.blobs.service import BlobService
from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.repositories import Repositories
from mirror.settings import ConfigurationError, Settings
from mirror.storage.store import Store
from mirror.util import logs
from mirror.util.detached import DetachedThreads
from mirror.util.uncancelled import wait_until_done
from mirror.web.auth.authenticator import Authenticator
from mirror.web.auth.browsers import Browsers
from mirror.web.connections.certificate import Certificate
from mirror.web.connections.pool import ConnectionPool
from mirror.web.connections.shutdown import Grace
from mirror.web.router import Router
from mirror.web.server import Server

_log = logging.getLogger(__name__)

# Keys that need a restart: too many parts hold their values, or count by them.
RESTART = frozenset(
    {
        *("listen", "listen_metrics", "trusted_proxies", "proxy_protocol"),
        *("idle_timeout", "client_timeout"),
        *("data_dir", "memory_cache", "tag_ttl", "missing_ttl", "stale_after"),
        "log_format",
    }
)
_TLS = ("tls_cert", "tls_key", "client_ca")
_LOGINS = ("htpasswd", "challenge", "anonymous", "clients", "shares")
_TABLES = ("upstreams", "clients", "shares")
_STOPPING = "the mirror is stopping: nothing was reloaded"
_PATIENCE = 30.0  # seconds for reading files: they may be on a server that is gone

T = TypeVar("T")


# Differences


@dataclass(frozen=True, slots=True)
class Difference:
    """The `settings` that can be applied at once, the keys `changed` by them, and the rest.

    The rest are the keys that keep their values until a `restart`.
    """

    settings: Settings
    changed: tuple[str, ...]
    restart: tuple[str, ...]


def compare(old: Settings, new: Settings) -> Difference:
    """Compare settings: find the differences that a mirror can apply while it runs with `old`."""
    kept = [key for key in _kept(old, new) if getattr(old, key) != getattr(new, key)]
    settings = new.model_copy(update={key: getattr(old, key) for key in kept})
    restart = tuple(name for key in kept for name in _named(key, old, new))
    keys = (key for key in Settings.model_fields if key not in kept)
    changed = tuple(name for key in keys for name in _named(key, old, new))
    return Difference(settings, changed, restart)


def _kept(old: Settings, new: Settings) -> Iterator[str]:
    """Yield the keys that keep their values.

    A listener has TLS, or has not, for its whole life. Logins may depend on that: settings that
    only go together are applied together.
    """
    yield from (key for key in Settings.model_fields if key in RESTART)
    if (old.tls_cert is None) != (new.tls_cert is None):
        yield from _TLS
        if (old.client_ca is None) != (new.client_ca is None):
            yield from _LOGINS


def _named(key: str, old: Settings, new: Settings) -> Iterator[str]:
    """Yield the names of differences: of a table its rows, of a row its keys; never a value."""
    before, after = getattr(old, key), getattr(new, key)
    if key in _TABLES:
        yield from _rows(key, before, after)
    elif before != after:
        yield key


def _rows(table: str, before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        row, then = before.get(name), after.get(name)
        if row is None or then is None:
            yield f"{table}.{name} ({'new' if row is None else 'removed'})"
        elif isinstance(row, BaseModel):
            fields = type(row).model_fields
            yield from (
                f"{table}.{name}.{key}"
                for key in fields
                if getattr(row, key) != getattr(then, key, None)
            )
        elif row != then:
            yield f"{table}.{name}"


# Applying them


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a mirror that depend on its settings, and can change with them.

    `bearable` is the number of connections that the limit of descriptors allows; `watchers` are the
    browsers at an address for metrics only.
    """

    upstreams: Upstreams
    publicity: Publicity
    budget: Budget
    checks: LimitPoller
    store: Store
    manifests: ManifestResolver
    blobs: BlobService
    fetches: FetchPool
    clients: Authenticator
    repositories: Repositories
    watchers: Browsers
    server: Server
    certificate: Certificate | None
    connections: ConnectionPool
    bearable: int
    grace: Grace


@dataclass(frozen=True, slots=True)
class _Made:
    """Objects made from settings; any fault in the settings has been found by then."""

    settings: Settings
    plans: UpstreamPlans
    clients: Authenticator
    router: Router
    certificate: Certificate | None
    max_size: int


class Reloader:
    """Reads settings again by `read`, and applies them to the `parts`: one reload at a time.

    All that can fail comes first, and changes nothing. The rest is one step of the event loop: no
    request sees half of it.
    """

    def __init__(self, settings: Settings, read: Callable[[], Settings], parts: Parts) -> None:
        self.settings = settings
        self._read = read
        self._parts = parts
        self._turn = asyncio.Lock()
        self._thread = DetachedThreads(1, "reload")
        self._running: set[asyncio.Task[Record]] = set()
        self._ending = False

    def __repr__(self) -> str:
        return f"<Reloader: {len(self._running)} running>"

    async def close(self) -> None:
        """Refuse new reloads; a running one has been applied, or changes nothing."""
        self._ending = True
        self._thread.close()
        for task in self._running:
            task.cancel()
        await wait_until_done([*self._running])

    async def reload(self) -> Record:
        """Read and apply the settings, logged; returns Reloaded, Unusable, or Refused at the end.

        A reload goes on to its end after its caller was cancelled.
        """
        if self._ending:
            return Refused(_STOPPING)
        task = asyncio.create_task(self._in_turn())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            return Refused(_STOPPING)

    async def _in_turn(self) -> Record:
        async with self._turn:
            try:
                told = await self._reload()
            except ConfigurationError as error:
                _log.error("nothing was reloaded: %s", error)
                return Unusable(str(error))
            except Exception:  # noqa: BLE001 - logged: the next reload may succeed
                _log.exception("unexpected failure of a reload")
                return Unusable("the reload failed; the mirror's log says how")
        _log.warning("reloaded: %s", "; ".join(told.words()))  # at any `log_level`
        return told

    async def _reload(self) -> Reloaded:
        parts, old = self._parts, self.settings
        difference = compare(old, await self._aside(self._read))
        made = await self._aside(partial(self._make, difference.settings))
        prepared = await parts.upstreams.prepare(made.plans)
        renewed = [*_of_files(prepared, old, made.settings)]
        if self._commit(made, prepared) and not {*_TLS} & {*difference.changed}:
            renewed.append("tls_cert (its files)")
        if made.max_size < parts.store.used:
            await parts.store.trim()
        return Reloaded((*difference.changed, *renewed), difference.restart)

    async def _aside(self, work: Callable[[], T]) -> T:
        """Run work that reads files on a thread; raises ConfigurationError if it takes too long."""
        try:
            async with asyncio.timeout(_PATIENCE):
                return await asyncio.wrap_future(self._thread.submit(work))
        except TimeoutError:
            raise ConfigurationError(
                f"the files of the configuration could not be read within {_PATIENCE:g} s"
            ) from None

    def _make(self, settings: Settings) -> _Made:
        """Make the objects; raises ConfigurationError. It reads files: to be run on a thread."""
        parts = self._parts
        return _Made(
            settings,
            UpstreamPlans(settings, parts.upstreams.plans),
            builders.clients(settings),
            builders.router(settings),
            builders.certificate(settings),
            quota.in_bytes(settings.max_size, parts.store.root),
        )

    def _commit(self, made: _Made, prepared: Mapping[str, Reached]) -> bool:
        """Apply the objects, at once; returns whether the certificate has changed."""
        parts, settings = self._parts, made.settings
        parts.upstreams.commit(made.plans, prepared)
        parts.publicity.change(made.plans.accounts)
        parts.budget.change(conversions.budgets(settings))
        parts.budget.ledger.ledger_keep = settings.ledger_keep
        parts.checks.limit_check = settings.limit_check
        for name in prepared:
            parts.checks.ask_anew(name)
            parts.manifests.forget_refusals(name)
            parts.blobs.forget_refusals(name)
        parts.clients.change(made.clients)
        parts.repositories.change()
        names = builders.names(settings)
        parts.clients.browsers.change(names, strict=builders.strict(settings))
        parts.watchers.change(names, strict=False)
        parts.server.router = made.router
        parts.connections.max_connections = min(settings.max_connections, parts.bearable)
        parts.connections.client_connections = settings.client_connections
        parts.fetches.change(abandon_after=settings.abandon_after, max_fetches=settings.max_fetches)
        parts.store.change_max_size(made.max_size)
        parts.grace.shutdown_grace = settings.shutdown_grace
        if settings.log_level != self.settings.log_level:
            logs.set_level(settings.log_level)
        self.settings = settings
        certificate = parts.certificate
        return bool(certificate and made.certificate and certificate.change(made.certificate))


def _of_files(made: Iterable[str], old: Settings, new: Settings) -> Iterator[str]:
    """Yield the upstreams that were made again only because their files have changed."""
    if conversions.timeouts(old) != conversions.timeouts(new):
        return
    for name in made:
        if old.upstreams.get(name) == new.upstreams[name]:
            yield f"upstreams.{name} (its files)"
