"""Crash the daemon at system calls: `python -m tests.crashes --minutes 1 --seed 7`, or `--all`.

Exits 1 on a broken promise, and says how to replay it.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from tests.crashes import judge, scene
from tests.crashes.cases import CALLS, Case, Effect, Scene, all_of, drawn, hindrance
from tests.standin import Hub, Terms, make_image


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    asked = _parser().parse_args(arguments)
    if reason := hindrance():
        _say(f"skipped: {reason}")
        return 0
    return asyncio.run(_run(asked))


async def _run(asked: argparse.Namespace) -> int:
    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    until = time.monotonic() + asked.minutes * 60
    failed = tried = struck = 0
    _say(f"seed {seed}")
    if asked.case:
        return int(await _try(Case.parse(asked.case)) is False)
    kinds: Iterator[Iterator[Case]] = _kinds() if asked.all else iter([drawn(seed)])
    for kind in kinds:
        for case in kind:
            if not asked.all and (
                tried >= asked.cases if asked.cases else time.monotonic() > until
            ):
                break
            met = await _try(case)
            tried, struck, failed = tried + 1, struck + (met is not None), failed + (met is False)
            if asked.all and met is None:  # the daemon makes fewer calls than that
                break
    _say(f"{tried} cases, {struck} met their call, {failed} wrong")
    return int(failed > 0)


def _kinds() -> Iterator[Iterator[Case]]:
    for which in get_args(Scene):
        for call in CALLS:
            for effect in get_args(Effect):
                yield all_of(which, call, effect)


async def _try(case: Case) -> bool | None:
    """Play a case; None if the daemon made fewer calls, False on a finding."""
    with tempfile.TemporaryDirectory(prefix="crashes-") as folder:
        data = Path(folder) / "data"
        async with Hub(Terms(auth="none")) as hub:
            images = [make_image(f"crash {number}", [900_000, 90_000]) for number in range(6)]
            for number, image in enumerate(images):
                hub.add(image, f"library/i{number}", "latest")
            told = await scene.play(case, data, hub, images)
            wrong = judge.crash(case, told)
            wrong += await judge.afterwards(data, hub, images, told)
    for each in wrong:
        _say(f"{case}: {each}")
    if wrong:
        _say(f"again: make crashes CASE={case}")
        return False
    # An error that the daemon survives does not show in the exit code: the call counts as met.
    return None if case.effect == "KILL" and told.code == 0 else True


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=1.0, help="how long to go on beginning cases")
    add("--cases", type=int, help="how many cases, instead of minutes")
    add("--seed", type=int, help="what decides which cases; any, without it")
    add("--all", action="store_true", help="every case there is, instead of some minutes")
    add("--case", metavar="SCENE:CALL:N:EFFECT", help="this case only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
