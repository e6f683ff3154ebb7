"""`mirror serve`: the daemon, from its greeting to its end."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial

import mirror
from mirror.app import deferred_signals, interpreter, preflight
from mirror.app.daemon import Daemon, running
from mirror.app.reload import ReloadRefused
from mirror.app.signals import Signals
from mirror.app.systemd import notify
from mirror.cli import FAILED
from mirror.cli.client_url import url_of
from mirror.cli.key_flags import add_keys, given
from mirror.client_config import clients
from mirror.client_config.endpoint import ClientEndpoint
from mirror.settings import ConfigurationError, Loaded, Settings, load_all
from mirror.settings.sources import NOTHING, Sources
from mirror.util import logs, system_trust
from mirror.util.command_error import CommandError
from mirror.util.log_writer import LogWriter
from mirror.util.units import human

_log = logging.getLogger(__name__)


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_keys(command)


def run(options: argparse.Namespace) -> int:
    """Run it until a signal ends it; returns the exit code. Raises CommandError."""
    flags = given(options)
    loaded = load_all(flags, options.config)
    settings = loaded.checked()
    os.umask(0o077)  # stored content may be private, and the index names the clients of pulls
    with logs.standard_error(settings.log_format) as log_writer:
        logs.set_up(settings.log_format, settings.log_level, log_writer)
        preflight.warn(loaded, settings)
        interpreter.share()
        interpreter.give_back()
        try:
            read = partial(load_all, flags, options.config)
            return asyncio.run(_serve_and_end(settings, log_writer, read, loaded.sources))
        except CommandError as error:
            if settings.log_format == "text":
                raise
            _log.critical("%s", error)  # a reader of JSON lines gets this one as well
            return FAILED


async def _serve_and_end(
    settings: Settings, log_writer: LogWriter, read: Callable[[], Loaded], sources: Sources
) -> int:
    try:
        return await serve(settings, log_writer, read, sources)
    finally:
        deferred_signals.ignore(asyncio.get_running_loop())


async def serve(
    settings: Settings,
    log_writer: LogWriter,
    read: Callable[[], Loaded] | None = None,
    sources: Sources = NOTHING,
) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code. `read` reads the settings again.

    `sources` are those of the settings.
    """
    signals = Signals()
    mirror_runs = running(
        settings, log_writer=log_writer, hurry=signals.hurry, read=read, sources=sources
    )
    try:
        await _serve_until(signals, settings, mirror_runs)
    except asyncio.CancelledError:  # SIGINT or SIGTERM cancelled the start
        if not signals.stop.is_set():
            raise
    _log.info("stopped")
    return 0


async def _serve_until(
    signals: Signals, settings: Settings, mirror_runs: AbstractAsyncContextManager[Daemon]
) -> None:
    async with mirror_runs as daemon:
        signals.started()
        interpreter.settle()
        _log.info("listening on %s, keeping data in %s", daemon.address, daemon.store.root)
        if settings.log_format == "text":
            print(_greeting(settings, daemon), flush=True)
        notify("READY=1")
        reading = asyncio.create_task(asyncio.to_thread(system_trust.read))
        reloading = asyncio.create_task(_reload_when_asked(signals, daemon))
        await signals.stop.wait()
        reloading.cancel()
        await reading
        notify("STOPPING=1")


async def _reload_when_asked(signals: Signals, daemon: Daemon) -> None:
    """Reload at each SIGHUP, for ever; several during a reload request one more."""
    while True:
        await signals.reload.wait()
        signals.reload.clear()
        with suppress(ConfigurationError, ReloadRefused):  # logged
            await daemon.reloader.reload()


def _greeting(settings: Settings, daemon: Daemon) -> str:
    url = url_of(settings, daemon.address)
    upstreams = ", ".join(
        f"{name} ({upstream.url}, {upstream.account_name or 'anonymous'})"
        for name, upstream in settings.upstreams.items()
    )
    store = daemon.store
    return (
        f"mirror {mirror.__version__}\n"
        f"  listens on   {url}\n"
        f"  mirrors      {upstreams}\n"
        f"  keeps data   in {store.root}\n"
        f"  keeps        at most {human(store.max_size)}, {human(store.used)} now\n"
        f"{_for_docker(url, settings)}"
    )


def _for_docker(url: str, settings: Settings) -> str:
    try:
        files = clients.files("docker", ClientEndpoint(url), settings)
    except ConfigurationError:
        return "for clients: mirror client-config"
    return f"in /etc/docker/daemon.json, then reload Docker:\n  {files['daemon.json'].rstrip()}"
