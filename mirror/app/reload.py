"""Reload: changed settings are applied to a running mirror, all of them or none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from mirror.app import preflight
from mirror.app.build_clients import (
    build_authenticator,
    build_router,
    is_strict,
    own_names,
)
from mirror.app.core import budget_policies
from mirror.app.differences import TLS, compare
from mirror.app.listeners import build_certificate
from mirror.app.max_size import in_bytes
from mirror.app.parts import Parts
from mirror.app.upstream_plans import UpstreamPlans, timeouts_of
from mirror.app.upstreams import Reached
from mirror.settings import ConfigurationError, Loaded, Settings
from mirror.settings.changes import change_lines
from mirror.settings.display import Origins
from mirror.settings.sources import Sources
from mirror.util import logs
from mirror.util.detached import DetachedThreads
from mirror.util.uncancelled import wait_until_done
from mirror.web.auth.authenticator import Authenticator
from mirror.web.connections.certificate import Certificate
from mirror.web.router import Router

_log = logging.getLogger(__name__)

_STOPPING = "the mirror is stopping: nothing was reloaded"
_PATIENCE = 30.0  # seconds for reading files: they may be on a server that is gone

T = TypeVar("T")


class Applied(NamedTuple):
    """The keys that a reload changed and put in force, and the changed keys that need a restart."""

    changed: tuple[str, ...]
    restart: tuple[str, ...]


class ReloadRefused(Exception):
    """The mirror is stopping, and reloads nothing any more."""


@dataclass(frozen=True, slots=True)
class _Made:
    """Objects made from settings; any fault in the settings has been found by then."""

    settings: Settings
    plans: UpstreamPlans
    authenticator: Authenticator
    router: Router
    certificate: Certificate | None
    max_size: int


class Reloader:
    """Reads settings again by `read`, and applies them to the `parts`: one reload at a time.

    All that can fail comes first, and changes nothing. The rest is one step of the event loop: no
    request sees half of it.
    """

    def __init__(
        self, settings: Settings, origins: Origins, read: Callable[[], Loaded], parts: Parts
    ) -> None:
        self.settings = settings
        self.origins = origins
        self._read = read
        self._parts = parts
        self._turn = asyncio.Lock()
        self._thread = DetachedThreads(1, "reload")
        self._running: set[asyncio.Task[Applied]] = set()
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

    async def reload(self) -> Applied:
        """Read and apply the settings; the result is logged.

        A reload goes on to its end after its caller was cancelled. Raises ConfigurationError if it
        changed nothing, for the reason that is logged, and ReloadRefused at the end of the mirror.
        """
        if self._ending:
            raise ReloadRefused(_STOPPING)
        task = asyncio.create_task(self._in_turn())
        self._running.add(task)
        task.add_done_callback(self._land)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise ReloadRefused(_STOPPING) from None

    def _land(self, task: asyncio.Task[Applied]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, and logged already: the caller may have gone

    async def _in_turn(self) -> Applied:
        async with self._turn:
            try:
                applied = await self._reload()
            except ConfigurationError as error:
                _log.error("nothing was reloaded: %s", error)
                raise
            except Exception:  # noqa: BLE001 - logged: the next reload may succeed
                _log.exception("unexpected failure of a reload")
                raise ConfigurationError("the reload failed; the mirror's log says how") from None
        _log.warning("reloaded: %s", "; ".join(change_lines(*applied)))  # at any `log_level`
        return applied

    async def _reload(self) -> Applied:
        parts, old, store = self._parts, self.settings, self._parts.core.store
        new, sources = await self._aside(self._checked)
        difference = compare(old, new)
        made = await self._aside(partial(self._make, difference.settings))
        prepared = await parts.upstreams.prepare(made.plans)
        renewed = [*_of_files(prepared, old, made.settings)]
        if self._commit(made, prepared) and not {*TLS} & {*difference.changed}:
            renewed.append("tls_cert (its files)")
        self.origins = self._origins(new, sources)
        if made.max_size < store.used:
            await store.trim()
        return Applied((*difference.changed, *renewed), difference.restart)

    def _checked(self) -> tuple[Settings, Sources]:
        """Read the settings, with their sources; raises ConfigurationError."""
        loaded = self._read()
        settings = loaded.checked()
        preflight.warn(loaded, settings)
        return settings, loaded.sources

    def _origins(self, new: Settings, sources: Sources) -> Origins:
        """Return the sources of the settings in force, of which some keys wait for a restart."""
        old, keys = self.origins, Settings.model_fields
        waiting = [key for key in keys if getattr(new, key) != getattr(self.settings, key)]
        return Origins(sources, {key: old.earlier.get(key, old.sources) for key in waiting})

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
            settings=settings,
            plans=UpstreamPlans(settings, parts.upstreams.plans),
            authenticator=build_authenticator(settings),
            router=build_router(settings),
            certificate=build_certificate(settings),
            max_size=in_bytes(settings.max_size, parts.core.store.root),
        )

    def _commit(self, made: _Made, prepared: Mapping[str, Reached]) -> bool:
        """Apply the objects, at once; returns whether the certificate has changed."""
        self._commit_upstreams(made, prepared)
        self._commit_core(made)
        renewed = self._commit_web_server(made)
        if made.settings.log_level != self.settings.log_level:
            logs.set_level(made.settings.log_level)
        self.settings = made.settings
        return renewed

    def _commit_upstreams(self, made: _Made, prepared: Mapping[str, Reached]) -> None:
        parts = self._parts
        parts.upstreams.commit(made.plans, prepared)
        parts.upstreams.publicity.change(made.plans.accounts)
        for name in prepared:
            parts.limit_poller.ask_anew(name)
            parts.content.manifests.forget_refusals(name)
            parts.absent_pins.forget(name)
            parts.content.blobs.forget_refusals(name)

    def _commit_core(self, made: _Made) -> None:
        parts, settings = self._parts, made.settings
        parts.core.budget.change(budget_policies(settings))
        parts.core.budget.ledger.ledger_keep = settings.ledger_keep
        parts.core.store.change_max_size(made.max_size, settings.max_pinned.fraction)
        parts.limit_poller.limit_check = settings.limit_check
        parts.content.fetches.change(
            abandon_after=settings.abandon_after, max_fetches=settings.max_fetches
        )
        parts.content.refresh_ahead.in_use.change(settings.tag_refresh_ahead)
        parts.content.repositories.change()
        if settings.schedules != self.settings.schedules:
            parts.scheduler.change(settings.schedules)

    def _commit_web_server(self, made: _Made) -> bool:
        web_server, settings, names = (
            self._parts.web_server,
            made.settings,
            own_names(made.settings),
        )
        web_server.authenticator.change(made.authenticator)
        web_server.authenticator.browsers.change(names, strict=is_strict(settings))
        web_server.metrics_browsers.change(names, strict=False)
        web_server.console.change(settings)
        web_server.server.router = made.router
        connections = web_server.connections
        connections.of_clients.max_connections = min(settings.max_connections, connections.bearable)
        connections.of_clients.client_connections = settings.client_connections
        connections.grace.shutdown_grace = settings.shutdown_grace
        certificate = connections.certificate
        return bool(certificate and made.certificate and certificate.change(made.certificate))


def _of_files(made: Iterable[str], old: Settings, new: Settings) -> Iterator[str]:
    """Yield the upstreams that were made again only because their files have changed."""
    if timeouts_of(old) != timeouts_of(new):
        return
    for name in made:
        if old.upstreams.get(name) == new.upstreams[name]:
            yield f"upstreams.{name} (its files)"
