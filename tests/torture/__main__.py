"""Torture a mirror for some minutes: `python -m tests.torture --minutes 1 --seed 7`.

Exits 1 on a finding, and says how to replay it.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.torture import report
from tests.torture.plan import ALL, HOSTILE, RoundPlan, plan_round
from tests.torture.rounds import Counted, torture


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    asked = _parser().parse_args(arguments)
    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        return asyncio.run(_run(asked, seed, Path(folder)))


async def _run(asked: argparse.Namespace, seed: int, folder: Path) -> int:
    until = time.monotonic() + asked.minutes * 60
    rounds: list[Counted] = []
    failed = False
    _say(f"seed {seed}")
    _say(report.HEAD)
    async with torture(seed, folder) as run:
        while len(rounds) < asked.rounds if asked.rounds is not None else time.monotonic() < until:
            counted = await run.play(_planned(seed, len(rounds), asked.only))
            rounds.append(counted)
            _say(report.line(counted))
            if counted.wrong:
                failed = True
                _say(report.failure(seed, counted, asked.only))
                if not asked.go_on:
                    break
    _say(report.summary(seed, rounds))
    return int(failed)


_ONLY = "upstream's troubles; `hostile`: peers that attack, in each round"


def _planned(seed: int, number: int, only: Sequence[str]) -> RoundPlan:
    troubles = tuple(each for each in ALL if each in only)
    return plan_round(seed, number, only=troubles, hostile=HOSTILE in only)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=1.0, help="how long to go on beginning rounds")
    add("--rounds", type=int, help="how many rounds, instead of minutes")
    add("--seed", type=int, help="what decides everything but timing; any, without it")
    add("--only", nargs="+", choices=sorted({*ALL, HOSTILE}), default=[], help=_ONLY)
    add("--go-on", action="store_true", help="do not end with the first round that is wrong")
    return parser


if __name__ == "__main__":
    sys.exit(main())
