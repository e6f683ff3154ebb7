"""`mirror check`: the faults of the configuration, and a trial of the upstreams."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from mirror.app import preflight, trial
from mirror.app.schedule_faults import schedule_faults
from mirror.settings import Loaded, Settings, load_all
from mirror.util import logs

WRONG = 1  # exit code: something is wrong


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    command.description = (
        "Print all faults of the configuration, a line for each: the key, its place, "
        "its value, and the allowed values."
    )
    command.epilog = "The exit code is 0 without faults, 1 with some."
    command.add_argument("--config", type=Path, metavar="FILE", help="the mirror's configuration")
    command.add_argument(
        "--online", action="store_true", help="try every upstream, too, as the daemon would"
    )


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    loaded = load_all(file=options.config)
    found = [*loaded.faults, *_found(loaded)]
    for line in found:
        print(line)
    settings = loaded.settings
    for line in () if settings is None else preflight.warnings(settings):
        print(f"mirror: warning: {loaded.sources.placed(line)}", file=sys.stderr)
    wrong = len(found)
    if options.online and settings is not None:
        wrong += _try(loaded, settings)
    if not wrong:
        print("nothing is wrong")
    return WRONG if wrong else 0


def _found(loaded: Loaded) -> Iterator[str]:
    """Yield the faults that a start would report, except consequences of other faults."""
    if loaded.settings is not None:
        found = chain(preflight.faults(loaded.settings), schedule_faults(loaded.settings))
        for line in found:
            if not loaded.follows(line):
                yield loaded.sources.placed(line)


def _try(loaded: Loaded, settings: Settings) -> int:
    """Try the upstreams without faults; returns the number of failures."""
    good = {
        name: each
        for name, each in settings.upstreams.items()
        if not any(preflight.upstream_faults(name, each))
    }
    with logs.standard_error(settings.log_format) as log_writer:
        logs.set_up(settings.log_format, "error", log_writer)  # warnings are printed already
        trials = asyncio.run(trial.tried(settings.model_copy(update={"upstreams": good})))
    for each in trials:
        url = good[each.upstream].url
        line = f"upstreams.{each.upstream}.url is '{url}': {each.words}"
        print(loaded.sources.placed(line) if each.fault else f"{each.upstream}: {each.words}")
    return sum(each.fault for each in trials)
