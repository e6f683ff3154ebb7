"""`mirror healthcheck`: whether the mirror runs, for containers and supervisors."""

from __future__ import annotations

import argparse
import sys

from mirror.admin import health
from mirror.cli.orders import add_place
from mirror.settings import load_usable

SICK = 1  # exit code: the mirror does not run, or is not ready


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command, "Asks by the control socket, not at an address.")
    command.add_argument(
        "--ready", action="store_true", help="fail also while the data folder cannot be used"
    )


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if the mirror is not healthy. Raises CommandError."""
    given = {} if options.data_dir is None else {"data_dir": options.data_dir}
    try:
        settings = load_usable(given, options.config)
        print(health.check(settings, ready=options.ready))
    except health.Unhealthy as error:
        print(f"mirror: {error}", file=sys.stderr)
        return SICK
    return 0
