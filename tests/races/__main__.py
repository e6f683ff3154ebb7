"""Hunt races for some minutes: `python -m tests.races --minutes 1 --seed 7`.

Exits 1 on a finding, and says how to replay it.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence

from tests.races import clock
from tests.races.play import Played, demand, play, shrink

_LINES = 60  # the last lines of a trace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.replay is not None:
        return _replay(asked)
    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    until = clock.true_time() + asked.minutes * 60
    plays: list[Played] = []
    _say(f"seed {seed}")
    while len(plays) < asked.plays if asked.plays is not None else clock.true_time() < until:
        plays.append(play(f"{seed}.{len(plays)}"))
        if plays[-1].wrong:
            _tell(plays[-1], asked)
            if not asked.go_on:
                break
    _say(_summary(plays))
    return int(any(played.wrong for played in plays))


def _replay(asked: argparse.Namespace) -> int:
    played = play(asked.replay)
    if played.wrong:
        _tell(played, asked)
    if asked.trace:
        _say("\n".join(played.trace))
    return int(bool(played.wrong))


def _tell(played: Played, asked: argparse.Namespace) -> None:
    if asked.brief:
        _say(f"{played.seed}: {'; '.join(played.kinds)}")
        return
    if asked.shrink:
        played = shrink(played)
    _say(f"play {played.seed}: {len(played.steps)} steps lead to")
    _say("\n".join(f"  {kind}: {what}" for kind, what in played.wrong))
    _say("\n".join(f"  {step}" for step in played.steps))
    first = next(at for at, line in enumerate(played.trace) if "WRONG" in line)
    _say("\n".join(played.trace[max(0, first - _LINES) : first + 1]))
    _say(f"again: make races REPLAY={played.seed}")


def _summary(plays: Sequence[Played]) -> str:
    gates, held = sum(each.gates for each in plays), max((each.held for each in plays), default=0)
    lines = [f"{len(plays)} plays, {gates} gates, the loop held for {held * 1000:.0f} ms at most"]
    lines += [f"  {count} of them: {kind}" for kind, count in demand(plays).most_common()]
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.races", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=1.0, help="how long to go on beginning plays")
    add("--plays", type=int, help="how many plays, instead of minutes")
    add("--seed", type=int, help="what decides everything; any, without it")
    add("--replay", metavar="SEED.N", help="play this one again")
    add("--trace", action="store_true", help="print all that was done in a replay")
    add("--brief", action="store_true", help="print a line for each play that is wrong")
    add("--go-on", action="store_true", help="do not end with the first play that is wrong")
    add("--no-shrink", dest="shrink", action="store_false", help="print all steps")
    return parser


if __name__ == "__main__":
    sys.exit(main())
