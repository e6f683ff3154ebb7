"""`mirror status`: the state of the mirror on one screen."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from mirror.admin import client
from mirror.admin.messages import (
    Fetches,
    FetchesOrder,
    OrderError,
    Record,
    RunningFetch,
    Status,
    StatusOrder,
)
from mirror.cli.orders import add_place, as_json, prepared
from mirror.cli.redrawn import redraw
from mirror.cli.status_screen import HEIGHT, WIDTH, screen

NOT_RUNNING = 1  # exit code
_UNBOUNDED = 1000  # lines of a screen that is no terminal

R = TypeVar("R")


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(
        command,
        "Without a running mirror it prints the figures of the data folder, and the exit code is "
        "1. A line with `!` needs attention now, one with `~` soon.",
    )
    command.add_argument(
        "--watch",
        action="store_true",
        help="draw it again every second, or print it every five seconds to a file or a pipe; "
        "Ctrl-C ends it",
    )
    command.add_argument("--json", action="store_true", help="print an object, times in seconds")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    with prepared(options) as settings:
        folder = settings.data_dir.absolute()
        if options.watch:
            redraw(lambda width, height: _watched(folder, width, height, as_line=options.json))
            return 0
        with closing(client.run(settings, StatusOrder())) as records:
            status = _only(records, Status)
        for line in as_json(status) if options.json else _printed(folder, status):
            print(line)
        return 0 if status.running else NOT_RUNNING


def _printed(folder: Path, status: Status) -> list[str]:
    if not sys.stdout.isatty():
        return screen(status, _fetches(folder, status), WIDTH, _UNBOUNDED)
    width, height = shutil.get_terminal_size((WIDTH, HEIGHT))
    return screen(status, _fetches(folder, status), width, height - 1)  # the prompt follows


def _watched(folder: Path, width: int, height: int, *, as_line: bool) -> list[str]:
    try:
        status = _only(client.ask(folder, StatusOrder()), Status)
        if as_line:
            return [json.dumps(asdict(status))]
        return screen(status, _fetches(folder, status), width, height)
    except OrderError as error:  # the mirror may start again
        return [json.dumps({"running": False, "error": str(error)})] if as_line else [str(error)]


def _fetches(folder: Path, status: Status) -> tuple[RunningFetch, ...]:
    if not status.running or not status.fetches:
        return ()
    try:
        return _only(client.ask(folder, FetchesOrder()), Fetches).fetches
    except OrderError:  # the mirror has stopped since
        return ()


def _only(records: Iterable[Record], kind: type[R]) -> R:
    """Return the one record of an order; raises OrderError."""
    for record in records:
        if isinstance(record, kind):
            return record
    raise OrderError(client.BROKE_OFF)
