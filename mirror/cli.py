"""The commands: what is typed, what is said on the terminal, which exit code."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import mirror
from mirror import logs
from mirror.daemon import Daemon, running
from mirror.sdnotify import notify
from mirror.settings import ConfigurationError, Settings, load
from mirror.store.errors import StoreError

_log = logging.getLogger(__name__)
_BAD_START = 2  # exit code: the configuration or the data folder cannot be used


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = load(_flags(options), options.config)
        logs.set_up(settings.log_format, settings.log_level)
        return asyncio.run(_serve(settings))
    except (ConfigurationError, StoreError) as error:
        print(f"mirror: {error}", file=sys.stderr)
        return _BAD_START


async def _serve(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code.

    Whoever sends a second one wants no grace: transfers are cut, all else is put in order.
    """
    stop = asyncio.Event()
    loop, serving = asyncio.get_running_loop(), asyncio.current_task()
    hurried: list[int] = []

    def asked_to_stop(number: int) -> None:
        if stop.is_set() and not hurried and serving is not None:
            hurried.append(number)
            serving.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop, number)
    try:
        async with running(settings) as daemon:
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
    host = daemon.address.host
    if host in ("0.0.0.0", "::"):  # noqa: S104 - recognised, not bound
        host = socket.gethostname()
    url = f"http://{daemon.address._replace(host=host)}"
    upstreams = ", ".join(
        f"{name} ({upstream.url}, {upstream.username or 'anonymous'})"
        for name, upstream in settings.upstreams.items()
    )
    store = daemon.store
    return (
        f"mirror {mirror.__version__}\n"
        f"  listens on   {url}\n"
        f"  mirrors      {upstreams}\n"
        f"  keeps data   in {store.files.root}\n"
        f"  keeps        at most {_human(store.limit)}, {_human(store.used)} now\n"
        f"in /etc/docker/daemon.json, then restart Docker:\n"
        f"  {json.dumps({'registry-mirrors': [url]})}"
    )


def _human(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _flags(options: argparse.Namespace) -> dict[str, object]:
    """Return the keys that were given on the command line."""
    given = {
        name: value
        for name in Settings.model_fields
        if name != "upstreams" and (value := getattr(options, name)) is not None
    }
    upstreams = dict(options.upstream)
    return given | ({"upstreams": upstreams} if upstreams else {})


def _upstream(text: str) -> tuple[str, dict[str, str]]:
    name, equals, url = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: NAME=URL is wanted")
    return name, {"url": url}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mirror", description=mirror.__doc__)
    parser.add_argument("--version", action="version", version=f"mirror {mirror.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the mirror", description="Run the mirror.")
    serve.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with these keys")
    for name, field in Settings.model_fields.items():
        if name != "upstreams":
            flag = "--" + name.replace("_", "-")
            serve.add_argument(flag, dest=name, metavar="VALUE", help=field.description)
    serve.add_argument(
        "--upstream",
        type=_upstream,
        action="append",
        default=[],
        metavar="NAME=URL",
        help="a registry to mirror; passwords are not for the command line",
    )
    return parser
