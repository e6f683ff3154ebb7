"""`mirror reload`: a running mirror reads its configuration again, and reports the outcome."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing

from mirror.admin import client
from mirror.admin.messages import OrderError, Record, Reloaded, ReloadOrder, Unusable
from mirror.cli.orders import add_place, as_json
from mirror.settings import ConfigurationError, load_usable

UNUSABLE = 1  # exit code: the configuration cannot be used, and nothing was changed


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command, "The mirror reads the file, variables and flags of its start, as on SIGHUP.")
    command.add_argument("--json", action="store_true", help="print an object")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if the configuration is unusable. Raises CommandError."""
    given = {} if options.data_dir is None else {"data_dir": options.data_dir}
    try:
        folder = load_usable(given, options.config).data_dir
    except ConfigurationError as error:  # the mirror cannot use it, and cannot be found by it
        return _unusable(str(error))
    last: Record | None = None
    with closing(client.ask(folder.absolute(), ReloadOrder())) as records:
        for record in records:
            last = record
    if isinstance(last, Unusable):
        return _unusable(last.reason)
    if not isinstance(last, Reloaded):
        raise OrderError(client.BROKE_OFF)
    for line in as_json(last) if options.json else last.words():
        print(line)
    return 0


def _unusable(reason: str) -> int:
    print(f"mirror: {reason}", file=sys.stderr)
    return UNUSABLE
