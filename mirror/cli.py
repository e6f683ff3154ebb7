"""The commands: what is typed, what is said on the terminal, which exit code."""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mirror
from mirror import client_config, client_files, commands, logs
from mirror.cache.records import (
    Collect,
    Measure,
    Order,
    Purge,
    Reckon,
    UpkeepError,
    Verify,
)
from mirror.client_config import Place
from mirror.daemon import Daemon, running
from mirror.sdnotify import notify
from mirror.settings import (
    Address,
    ConfigurationError,
    Settings,
    load,
    parse_origin,
    parse_size,
)
from mirror.sizes import human
from mirror.store.errors import StoreError

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_log = logging.getLogger(__name__)
_BAD_START = 2  # exit code: the configuration or the data folder cannot be used
_TABLES = ("upstreams", "shares", "clients")  # keys that take more than a flag can hold
_INTERRUPTED = 128 + signal.SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = load(_flags(options), options.config)
        run: Callable[[Settings, argparse.Namespace], int] = options.run
        return run(settings, options)
    except (ConfigurationError, StoreError, UpkeepError) as error:
        print(f"mirror: {error}", file=sys.stderr)
        return _BAD_START


def _carry_out(settings: Settings, options: argparse.Namespace) -> int:
    """Run an upkeep command; returns the exit code."""
    logs.set_up(settings.log_format, "error")  # what is told of is printed
    order = options.order(options)
    os.umask(0o077)
    try:
        return asyncio.run(commands.run(settings, order, as_json=options.json))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _tell_client(settings: Settings, options: argparse.Namespace) -> int:
    """Print a client's configuration, or write it into its folder; returns the exit code."""
    url = options.url or _url(settings, settings.listen)
    place = Place(url, client_files.ca(options.ca) if options.ca else "")
    files = client_config.files(options.client, place, settings)
    if options.output is None:
        client_files.show(files)
    else:
        client_files.write(files, options.output, force=options.force)
    return 0


def _run(settings: Settings, _: argparse.Namespace) -> int:
    os.umask(0o077)  # what is kept may be private, and the index tells who pulled what
    logs.set_up(settings.log_format, settings.log_level)
    return asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code.

    Whoever sends a second one wants no grace: transfers are cut, all else is put in order.
    """
    stop = asyncio.Event()
    loop, serving = asyncio.get_running_loop(), asyncio.current_task()
    hurried: list[int] = []
    tasks: set[asyncio.Task[None]] = set()

    def asked_to_stop(number: int) -> None:
        if stop.is_set() and not hurried and serving is not None:
            hurried.append(number)
            serving.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop, number)
    try:
        async with running(settings) as daemon:
            if daemon.certificate is not None:
                renew = daemon.certificate.renew
                loop.add_signal_handler(
                    signal.SIGHUP, lambda: tasks.add(loop.create_task(renew(now=True)))
                )
            _log.info(
                "listening on %s, keeping data in %s", daemon.address, daemon.store.files.root
            )
            if settings.log_format == "text":
                print(_greeting(settings, daemon), flush=True)
            notify("READY=1")
            await stop.wait()
            notify("STOPPING=1")
    except asyncio.CancelledError:
        if not hurried:
            raise
    return 128 + hurried[0] if hurried else 0


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
        [told] = client_config.files("docker", Place(url), settings).values()
    except ConfigurationError:
        return "for clients: mirror client-config"
    return f"in /etc/docker/daemon.json, then restart Docker:\n  {told.rstrip()}"


def _url(settings: Settings, address: Address) -> str:
    """Return the URL at which clients reach this address; raises ConfigurationError."""
    if not address.port:
        raise ConfigurationError(f"listen is '{address}': which port is free? --url is wanted")
    if address.host in ("0.0.0.0", "::", ""):  # noqa: S104 - recognised, not bound
        address = address._replace(host=socket.gethostname())
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{address}"


def _flags(options: argparse.Namespace) -> dict[str, object]:
    """Return the keys that were given on the command line."""
    given = {
        name: value
        for name in Settings.model_fields
        if name not in _TABLES and (value := getattr(options, name, None)) is not None
    }
    upstreams = dict(options.upstream)
    return given | ({"upstreams": upstreams} if upstreams else {})


def _upstream(text: str) -> tuple[str, dict[str, str]]:
    name, equals, url = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: NAME=URL is wanted")
    return name, {"url": url}


def _origin(text: str) -> str:
    try:
        return parse_origin(text)
    except ValueError:
        wanted = "http://host[:port] or https://host[:port] is wanted, without a path"
        raise argparse.ArgumentTypeError(f"{text!r}: {wanted}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mirror", description=mirror.__doc__)
    parser.add_argument("--version", action="version", version=f"mirror {mirror.__version__}")
    these = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(these)
    _add_client_config(these)
    _add_verify(these)
    _add(these, "gc", lambda _: Collect(), "remove what is of no use, and keep the bound")
    purge = _add(these, "purge", lambda given: Purge(given.target), "remove an image or its like")
    purge.add_argument(
        "target",
        metavar="IMAGE|DIGEST|REPOSITORY",
        help="nginx:1.25, ghcr.io/a/b@sha256:..., sha256:..., or library/nginx",
    )
    usage = _add(these, "du", lambda _: Measure(), "tell what takes the space, by image")
    usage.add_argument("--json", action="store_true", help="print an object, sizes in bytes")
    budget = _add(these, "budget", lambda _: Reckon(), "tell what is left of the pull limits")
    budget.add_argument("--json", action="store_true", help="print an object, times in seconds")
    return parser


def _add_serve(these: _Commands) -> None:
    serve = these.add_parser("serve", help="run the mirror", description="Run the mirror.")
    serve.set_defaults(run=_run)
    _add_keys(serve)


def _add_client_config(these: _Commands) -> None:
    text = "write what a client has to be told of the mirror"
    command = these.add_parser(
        "client-config",
        help=text,
        description=f"{text.capitalize()}, which is configured as by serve's own flags.",
    )
    command.set_defaults(run=_tell_client)
    clients = list(client_config.CLIENTS)
    command.add_argument("client", metavar="CLIENT", choices=clients, help=", ".join(clients))
    command.add_argument(
        "--url", type=_origin, help="where clients reach the mirror, if not where it listens"
    )
    command.add_argument(
        "--ca", type=Path, metavar="FILE", help="who signed its certificate, for clients to trust"
    )
    command.add_argument(
        "--output", type=Path, metavar="DIR", help="the client's folder to write its files into"
    )
    command.add_argument("--force", action="store_true", help="replace files that are there")
    _add_keys(command)


def _add_keys(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with these keys")
    for name, field in Settings.model_fields.items():
        if name not in _TABLES:
            flag = "--" + name.replace("_", "-")
            command.add_argument(flag, dest=name, metavar="VALUE", help=field.description)
    command.add_argument(
        "--upstream",
        type=_upstream,
        action="append",
        default=[],
        metavar="NAME=URL",
        help="a registry to mirror; passwords are not for the command line",
    )


def _add_verify(these: _Commands) -> None:
    def order(given: argparse.Namespace) -> Order:
        return Verify(**given.sample, rate=given.rate)

    verify = _add(these, "verify", order, "hash what is kept, and discard what is wrong")
    verify.add_argument(
        "--sample",
        type=_sample,
        default={},
        metavar="N%|N",
        help="a share of the files, or so many, chosen at random; all without it",
    )
    verify.add_argument(
        "--rate", type=_rate, metavar="SIZE", help="bytes read a second at most, such as 50MiB"
    )


def _add(
    these: _Commands, name: str, order: Callable[[argparse.Namespace], Order], text: str
) -> argparse.ArgumentParser:
    """Add an upkeep command, which finds its data as `serve` does."""
    about = f"{text[0].upper()}{text[1:]}. Works beside a running mirror and without one."
    command = these.add_parser(name, help=text, description=about)
    command.set_defaults(run=_carry_out, order=order, json=False, upstream=[])
    command.add_argument("--config", type=Path, metavar="FILE", help="the file given to serve")
    described = Settings.model_fields["data_dir"].description
    command.add_argument("--data-dir", dest="data_dir", metavar="VALUE", help=described)
    return command


def _sample(text: str) -> dict[str, float | int]:
    number = text.removesuffix("%")
    try:
        if number != text:
            percent = float(number)
            if math.isfinite(percent) and 0 < percent <= 100:
                return {"percent": percent}
        elif number.isascii() and number.isdigit() and int(number[:19]) > 0:
            return {"count": int(number[:19])}
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"{text!r}: a share above 0% up to 100% is wanted, such as 5%, or a number of files"
    )


def _rate(text: str) -> int:
    try:
        rate = parse_size(text)
    except ValueError:
        rate = 0
    if not 0 < rate < 2**63:
        raise argparse.ArgumentTypeError(
            f"{text!r}: bytes a second are wanted, above 0, with or without a suffix, such as 50MiB"
        )
    return rate
