"""Fuzz a mirror for some minutes: `python -m tests.fuzz --minutes 60 --seed 7`.

Exits 1 after a failure, and prints how to replay it: `--play 'Talk(…)'`.
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
from shlex import quote

from tests.fuzz import draw
from tests.fuzz.plays import Play, read, shown
from tests.fuzz.site import Site, opened
from tests.fuzz.smaller import shrunk
from tests.fuzz.verdict import Measured, Wrong, worst

LIFE = 6  # rounds, after which the daemon is stopped and its data folder checked
_SHOWN = 8  # faults that are printed
_MIB = 1024 * 1024
HEAD = "round     s  stall ms  latency ms  slowest honest s  peak MiB  rest MiB  plays"


class Fuzzing:
    """Plays rounds of a seed until the time is up."""

    def __init__(self, asked: argparse.Namespace, seed: int) -> None:
        self._asked = asked
        self._seed = seed
        self._until = time.monotonic() + asked.minutes * 60
        self._number = asked.first
        self.found = 0

    async def run(self) -> None:
        """Play rounds, one life of a daemon after another."""
        while self._goes_on():
            with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
                async with opened(Path(folder) / "data") as site:
                    await self._live(site)

    def _goes_on(self) -> bool:
        enough = self.found and not self._asked.go_on
        rounds = self._asked.rounds
        if rounds is not None:
            return not enough and self._number < self._asked.first + rounds
        return not enough and time.monotonic() < self._until

    async def _live(self, site: Site) -> None:
        for turn in range(LIFE):
            if turn and not self._goes_on():
                break
            plays = draw.plays(self._seed, self._number)
            began = time.monotonic()
            wrong = await site.play(plays, f"{self._seed}-{self._number}")
            _say(line(self._number, time.monotonic() - began, site.last, plays))
            self._number += 1
            if wrong:
                await self._tell(plays, wrong)
                return
        last = draw.plays(self._seed, self._number - 1)
        if wrong := await site.stop(last):
            await self._tell(last, wrong)

    async def _tell(self, plays: tuple[Play, ...], wrong: Sequence[Wrong]) -> None:
        self.found += 1
        _say("\n".join([f"seed {self._seed}, round {self._number - 1}: wrong", *_few(wrong)]))
        until = time.monotonic() + self._asked.shrink
        kind = worst(wrong)

        async def fails(fewer: tuple[Play, ...]) -> bool:
            return kind in {each.kind for each in await played(fewer)}

        small = await shrunk(plays, fails, lambda: time.monotonic() < until)
        _say(f"the smallest found: python -m tests.fuzz --play {quote(shown(small))}")
        _say(f"replay: make fuzz SEED={self._seed} FIRST={self._number - 1} ROUNDS=1")


async def played(plays: tuple[Play, ...]) -> list[Wrong]:
    """Play these in a separate life, and once more during its stop."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        async with opened(Path(folder) / "data") as site:
            began = time.monotonic()
            wrong = await site.play(plays, "again")
            _say(line(0, time.monotonic() - began, site.last, plays))
            return wrong or await site.stop(plays)


def line(number: int, seconds: float, at: Measured, plays: Sequence[Play]) -> str:
    """Return a line with the figures of a round."""
    return (
        f"{number:5}  {seconds:4.1f}  {max(at.stall, at.lag) * 1000:8.0f}"
        f"  {at.latency * 1000:10.0f}  {at.slowest:16.2f}  {at.peak / _MIB:8.0f}"
        f"  {at.resident / _MIB:8.0f}  {len(plays)}"
    )


def _few(wrong: Sequence[Wrong]) -> list[str]:
    more = [f"  … and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    return [*(f"  {each}" for each in wrong[:_SHOWN]), *more]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _again(text: str) -> int:
    wrong = await played(read(text))
    _say("\n".join(_few(wrong)) or "nothing is wrong")
    return 1 if wrong else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fuzz; returns the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.play:
        return asyncio.run(_again(asked.play))
    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    fuzzing = Fuzzing(asked, seed)
    _say(f"seed {seed}\n{HEAD}")
    asyncio.run(fuzzing.run())
    _say(f"seed {seed}: {fuzzing.found} rounds or lives were wrong")
    return 1 if fuzzing.found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=1.0, help="how long to go on beginning rounds")
    add("--rounds", type=int, help="how many rounds, instead of minutes")
    add("--first", type=int, default=0, help="the number of the first round")
    add("--seed", type=int, help="what decides the rounds; any, without it")
    add("--shrink", type=float, default=90.0, help="how long, in s, to make small what is wrong")
    add("--go-on", action="store_true", help="do not end with the first that is wrong")
    add("--play", metavar="PLAYS", help="play what is printed so instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
