"""The arguments: what can be typed, and what is said of what cannot."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import mirror
from mirror import client_config
from mirror.cache.records import Collect, Measure, Order, Purge, Reckon, Verify
from mirror.settings import Settings, parse_origin, parse_size

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

SERVE, CLIENT_CONFIG = "serve", "client-config"  # all others carry out an `order`
_TABLES = ("upstreams", "shares", "clients")  # keys that take more than a flag can hold


def flags(options: argparse.Namespace) -> dict[str, object]:
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


def parser() -> argparse.ArgumentParser:
    """Make the parser: `command` of what it reads says what is wanted."""
    made = argparse.ArgumentParser(prog="mirror", description=mirror.__doc__)
    made.add_argument("--version", action="version", version=f"mirror {mirror.__version__}")
    these = made.add_subparsers(required=True, metavar="COMMAND")
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
    return made


def _add_serve(these: _Commands) -> None:
    serve = these.add_parser(SERVE, help="run the mirror", description="Run the mirror.")
    serve.set_defaults(command=SERVE)
    _add_keys(serve)


def _add_client_config(these: _Commands) -> None:
    text = "write what a client has to be told of the mirror"
    command = these.add_parser(
        CLIENT_CONFIG,
        help=text,
        description=f"{text.capitalize()}, which is configured as by serve's own flags.",
    )
    command.set_defaults(command=CLIENT_CONFIG)
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
    command.add_argument(
        "--only", action="store_true", help="have clients ask nobody but the mirror, ever"
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
    command.set_defaults(command=name, order=order, json=False, upstream=[])
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
