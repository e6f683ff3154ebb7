"""`mirror check`: the faults of the configuration, and a trial of the upstreams."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
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
    command.add_argument(
        "--json", action="store_true", help="print an object of faults, warnings and trials"
    )


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    loaded = load_all(file=options.config)
    settings = loaded.settings
    faults = [str(line) for line in (*loaded.faults, *_found(loaded))]
    trials: list[_Tried] = []
    warnings = [] if settings is None else [*preflight.warnings(settings)]
    warnings = [loaded.sources.placed(line) for line in warnings]
    if not options.json:
        _print(faults, warnings)
    if options.online and settings is not None:
        trials = _try(loaded, settings)
    wrong = len(faults) + sum(each.fault for each in trials)
    if options.json:
        upstreams = [asdict(each) for each in trials]
        print(json.dumps({"faults": faults, "warnings": warnings, "trials": upstreams}, indent=2))
    else:
        for each in trials:
            print(each.words)
        if not wrong:
            print("nothing is wrong")
    return WRONG if wrong else 0


def _print(faults: list[str], warnings: list[str]) -> None:
    for line in faults:
        print(line)
    for line in warnings:
        print(f"mirror: warning: {line}", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class _Tried:
    """The outcome of the trial of an upstream, in words."""

    upstream: str
    words: str
    fault: bool


def _found(loaded: Loaded) -> Iterator[str]:
    """Yield the faults that a start would report, except consequences of other faults."""
    if loaded.settings is not None:
        found = chain(preflight.faults(loaded.settings), schedule_faults(loaded.settings))
        for line in found:
            if not loaded.follows(line):
                yield loaded.sources.placed(line)


def _try(loaded: Loaded, settings: Settings) -> list[_Tried]:
    """Try the upstreams without faults."""
    good = {
        name: each
        for name, each in settings.upstreams.items()
        if not any(preflight.upstream_faults(name, each))
    }
    with logs.standard_error(settings.log_format) as log_writer:
        logs.set_up(settings.log_format, "error", log_writer)  # warnings are printed already
        trials = asyncio.run(trial.tried(settings.model_copy(update={"upstreams": good})))
    found = list[_Tried]()
    for each in trials:
        line = f"upstreams.{each.upstream}.url is '{good[each.upstream].url}': {each.words}"
        words = loaded.sources.placed(line) if each.fault else f"{each.upstream}: {each.words}"
        found.append(_Tried(each.upstream, words, bool(each.fault)))
    return found
