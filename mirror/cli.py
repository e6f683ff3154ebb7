"""The command line: what is done of what was typed, and the exit code."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

import mirror
from mirror import client_config, client_files, commands, interpreter, logs
from mirror.arguments import CLIENT_CONFIG, SERVE, flags, parser
from mirror.cache.records import UpkeepError
from mirror.client_config import Place
from mirror.daemon import Daemon, running
from mirror.outlet import Outlet
from mirror.sdnotify import notify
from mirror.settings import Address, ConfigurationError, Settings, load
from mirror.signals import Signals
from mirror.sizes import human
from mirror.store.errors import StoreError
from mirror.web.tls import Certificate

_log = logging.getLogger(__name__)
_BAD_START = 2  # exit code: the configuration or the data folder cannot be used
_INTERRUPTED = 128 + signal.SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        settings = load(flags(options), options.config)
        if options.command == SERVE:
            return _run(settings)
        if options.command == CLIENT_CONFIG:
            return _tell_client(settings, options)
        return _carry_out(settings, options)
    except (ConfigurationError, StoreError, UpkeepError) as error:
        print(f"mirror: {error}", file=sys.stderr)
        return _BAD_START


def _carry_out(settings: Settings, options: argparse.Namespace) -> int:
    """Run an upkeep command; returns the exit code."""
    order = options.order(options)
    os.umask(0o077)
    try:
        with logs.standard_error(settings.log_format) as outlet:
            logs.set_up(settings.log_format, "error", outlet)  # what is told of is printed
            return asyncio.run(commands.run(settings, order, as_json=options.json))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _tell_client(settings: Settings, options: argparse.Namespace) -> int:
    """Print a client's configuration, or write it into its folder; returns the exit code."""
    url = options.url or _url(settings, settings.listen)
    place = Place(url, client_files.ca(options.ca) if options.ca else "", options.only)
    files = client_config.files(options.client, place, settings)
    if options.output is None:
        client_files.show(files)
    else:
        client_files.write(files, options.output, force=options.force)
    return 0


def _run(settings: Settings) -> int:
    os.umask(0o077)  # what is kept may be private, and the index tells who pulled what
    try:
        with logs.standard_error(settings.log_format) as outlet:
            logs.set_up(settings.log_format, settings.log_level, outlet)
            interpreter.share()
            interpreter.give_back()
            return asyncio.run(_serve(settings, outlet))
    except KeyboardInterrupt:  # behind the last of the loop
        return _INTERRUPTED


async def _serve(settings: Settings, outlet: Outlet) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code."""
    signals = Signals()
    try:
        await _serve_until(signals, settings, outlet)
    except asyncio.CancelledError:  # the start was, in order
        if not signals.stop.is_set():
            raise
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
    url = _url(settings, daemon.address)
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


def _url(settings: Settings, address: Address) -> str:
    """Return the URL at which clients reach this address; raises ConfigurationError."""
    if not address.port:
        raise ConfigurationError(f"listen is '{address}': which port is free? --url is wanted")
    if address.host in ("0.0.0.0", "::", ""):  # noqa: S104 - recognised, not bound
        address = address._replace(host=socket.gethostname())
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{address}"
