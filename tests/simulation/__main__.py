"""Simulate a fleet's weeks: `python -m tests.simulation --days 14 --seed 7`.

Exits 1 if the mirror broke a promise.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mirror.settings import Settings, load
from tests.simulation import report
from tests.simulation.bounds import unavoidable
from tests.simulation.play import Score, play_mirror, play_others
from tests.simulation.scenarios import SCENARIOS, Scenario
from tests.simulation.trace import Trace, plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    asked = _parser().parse_args(arguments)
    sys.stdout.write(f"seed {asked.seed}, {asked.days} days\n\n")
    logging.disable(logging.WARNING)  # gates open and shut all day
    held = [_simulate(scenario, asked.days, asked.seed) for scenario in SCENARIOS]
    return 0 if all(held) else 1


def _simulate(scenario: Scenario, days: int, seed: int) -> bool:
    trace = plan(scenario.fleet, min(days, scenario.days), seed)
    settings = load()
    mirrors = _play(scenario, trace, settings)
    scores = [mirrors]
    if scenario.aside:
        unasked = load({"tag_refresh_ahead": 0})
        scores.append(_play(scenario, trace, unasked, "mirror, no HEAD ahead"))
    scores += asyncio.run(play_others(trace, scenario.terms))
    least = unavoidable(trace, scenario.terms)
    wrong = list(report.wrong(scenario, mirrors, least, settings.max_stale + settings.tag_ttl))
    for line in report.table(scenario, scores, least):
        sys.stdout.write(line + "\n")
    for text in wrong:
        sys.stdout.write(f"WRONG: {text}\n\n")
    sys.stdout.flush()
    return not wrong


def _play(scenario: Scenario, trace: Trace, settings: Settings, name: str = "mirror") -> Score:
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:
        return asyncio.run(play_mirror(trace, scenario.terms, Path(folder), settings, name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--days", type=int, default=14, help="how long to go on")
    parser.add_argument("--seed", type=int, default=7, help="what decides everything")
    return parser


if __name__ == "__main__":
    sys.exit(main())
