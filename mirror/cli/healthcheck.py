"""`mirror healthcheck`: whether the mirror runs, for containers and whatever restarts it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mirror import health
from mirror.cli.orders import add_place
from mirror.settings import PREFIX, ConfigurationError, Settings, load

SICK = 1  # exit code: the mirror does not run, or is not ready


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command, "It is asked by its control socket, whatever it listens on.")
    command.add_argument(
        "--ready", action="store_true", help="fail, too, while its data folder cannot be used"
    )


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 where the mirror is not well. Raises CommandFailed."""
    try:
        print(health.check(_settings(options), ready=options.ready))
    except health.Unhealthy as error:
        print(f"mirror: {error}", file=sys.stderr)
        return SICK
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    """Load the settings; where they are wrong, those that tell where the data is must do.

    A file that was spoilt since concerns no mirror that runs: a probe must not end it for that.
    Raises ConfigurationError.
    """
    try:
        given = {} if options.data_dir is None else {"data_dir": options.data_dir}
        return load(given, options.config)
    except ConfigurationError:
        folder = options.data_dir or os.environ.get(f"{PREFIX}DATA_DIR")
        if not folder:
            raise
        return Settings.model_construct(data_dir=Path(folder).expanduser())
