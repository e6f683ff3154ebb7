"""`mirror serve`: the daemon, from its greeting to its end."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal

import mirror
from mirror import client_config, held, interpreter, logs
from mirror.cli import FAILED
from mirror.cli.keys import add_keys, given
from mirror.cli.place import url_of
from mirror.client_config import Place
from mirror.daemon import Daemon, running
from mirror.failure import CommandFailed
from mirror.outlet import Outlet
from mirror.sdnotify import notify
from mirror.settings import ConfigurationError, Settings, load, overruled
from mirror.signals import Signals
from mirror.sizes import human
from mirror.web.tls import Certificate

_log = logging.getLogger(__name__)


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_keys(command)


def run(options: argparse.Namespace) -> int:
    """Run it until a signal ends it; returns the exit code. Raises CommandFailed."""
    flags = given(options)
    settings = load(flags, options.config)
    os.umask(0o077)  # what is kept may be private, and the index tells who pulled what
    with logs.standard_error(settings.log_format) as outlet:
        logs.set_up(settings.log_format, settings.log_level, outlet)
        for warning in overruled(flags, options.config):
            _log.warning("%s", warning)
        interpreter.share()
        interpreter.give_back()
        try:
            return asyncio.run(_serve_and_end(settings, outlet))
        except CommandFailed as error:
            if settings.log_format == "text":
                raise
            _log.critical("%s", error)  # what reads objects reads this one, too
            return FAILED


async def _serve_and_end(settings: Settings, outlet: Outlet) -> int:
    try:
        return await serve(settings, outlet)
    finally:
        held.give_up(asyncio.get_running_loop())


async def serve(settings: Settings, outlet: Outlet) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code."""
    signals = Signals()
    try:
        await _serve_until(signals, settings, outlet)
    except asyncio.CancelledError:  # the start was, in order
        if not signals.stop.is_set():
            raise
    _log.info("stopped")
    return 0


async def _serve_until(signals: Signals, settings: Settings, outlet: Outlet) -> None:
    async with running(settings, outlet=outlet, hurry=signals.hurry) as daemon:
        signals.started()
        interpreter.settle()
        if daemon.certificate is not None:
            _renew_on_hangup(daemon.certificate)
        _log.info("listening on %s, keeping data in %s", daemon.address, daemon.store.files.root)
        if settings.log_format == "text":
            print(_greeting(settings, daemon), flush=True)
        notify("READY=1")
        await signals.stop.wait()
        notify("STOPPING=1")


def _renew_on_hangup(certificate: Certificate) -> None:
    """Have SIGHUP read the certificate anew."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def renew() -> None:
        task = loop.create_task(certificate.renew(now=True))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, renew)


def _greeting(settings: Settings, daemon: Daemon) -> str:
    url = url_of(settings, daemon.address)
    upstreams = ", ".join(
        f"{name} ({upstream.url}, {upstream.whose or 'anonymous'})"
        for name, upstream in settings.upstreams.items()
    )
    store = daemon.store
    return (
        f"mirror {mirror.__version__}\n"
        f"  listens on   {url}\n"
        f"  mirrors      {upstreams}\n"
        f"  keeps data   in {store.files.root}\n"
        f"  keeps        at most {human(store.books.limit)}, {human(store.books.used)} now\n"
        f"{_for_docker(url, settings)}"
    )


def _for_docker(url: str, settings: Settings) -> str:
    try:
        told = client_config.files("docker", Place(url), settings)["daemon.json"]
    except ConfigurationError:
        return "for clients: mirror client-config"
    return f"in /etc/docker/daemon.json, then reload Docker:\n  {told.rstrip()}"
