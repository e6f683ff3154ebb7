"""The command: what is asked for, what is missing, and the page that is kept."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from bench import report
from bench.figures import MIRROR, Figure
from bench.processes import Failed
from bench.start.commands import commands
from bench.start.firsts import First, firsts
from bench.start.setups import setups

T = TypeVar("T")
_PAGE = Path(__file__).parents[1] / "START.md"
_PARTS = ("setups", "commands", "firsts")
_SETUPS, _COMMANDS = 3, 15  # rounds


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns 0 whether or not the bars were reached, 2 where something is missing."""
    asked = _parser().parse_args(arguments)
    if shutil.which("skopeo") is None or os.geteuid() != 0:
        _say("bench.start: as root, with skopeo: apt-get install skopeo")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so all is cleaned up
    try:
        _run(asked.only or _PARTS, asked.rounds)
    except KeyboardInterrupt:
        _say("bench.start: interrupted")
        return 128 + signal.SIGINT
    except (Failed, OSError) as error:
        _say(f"bench.start: {error}")
        return 1
    return 0


def _run(parts: Sequence[str], rounds: int) -> None:
    neighbours = report.Neighbours()
    with tempfile.TemporaryDirectory(prefix="mirror-start-") as folder:
        figures, ways = _measured(parts, Path(folder), rounds)
    page = _page(report.machine(neighbours.cores()), figures, ways)
    print(page)
    if parts == _PARTS:
        _PAGE.write_text(page)


def _measured(parts: Sequence[str], folder: Path, rounds: int) -> tuple[list[Figure], list[First]]:
    figures: list[Figure] = []
    if "commands" in parts:
        figures += _shown(commands(folder, _COMMANDS, _say), _figure)
    if "setups" in parts:
        figures += _shown(setups(folder, rounds), _figure)
    return figures, _shown(firsts(folder, _say), _way) if "firsts" in parts else []


def _shown(measured: Iterable[T], cells: Callable[[T], tuple[str, ...]]) -> list[T]:
    """Collect what is measured, each shown when it is there."""
    all_of_it = []
    for each in measured:
        _say(" | ".join(cells(each)))
        all_of_it.append(each)
    return all_of_it


def _page(where: report.Machine, figures: Sequence[Figure], ways: Sequence[First]) -> str:
    about, others, *_ = where.lines()
    bars = [("", "unit", "mirror", "beside", "ratio", "bar", ""), *map(_figure, figures)]
    heads = ("", "commands", "serves after", "first pull", "second pull", "in all", "bodies")
    return "\n".join(
        [
            "# The first minutes",
            "",
            "Written by `make bench-start`. The figures of the first table are medians of rounds",
            "that alternate. The second table has one run of each way to the second pull, on a",
            "machine without any package in its caches.",
            "",
            "`commands` are the commands that a user types. The image has three layers, of 36 MB",
            "together, and is in the stand-in hub on loopback. `bodies` is the number of layers",
            "that the hub sent.",
            "",
            f"{about}\n\n{others}, Python {where.python}\n",
            *_table(bars),
            "",
            *_table([heads, *map(_way, ways)]),
            "",
        ]
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    first, *rest = rows
    return [f"| {' | '.join(row)} |" for row in (first, ("---",) * len(first), *rest)]


def _figure(figure: Figure) -> tuple[str, ...]:
    [beside] = [name for name in figure.samples if name != MIRROR]
    times = figure.times(beside)
    mine, other = figure.median(MIRROR), figure.median(beside)
    return (
        figure.what,
        figure.unit,
        f"{mine:.3g}",
        f"{other:.3g} ({beside})",
        f"x{times:.2f}" if times is not None else "",
        str(figure.bar or ""),
        figure.verdict,
    )


def _way(way: First) -> tuple[str, ...]:
    seconds = (way.serving, way.first, way.second, way.whole)
    return (way.name, str(way.commands), *(f"{each:.1f} s" for each in seconds), str(way.bodies))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=__doc__)
    only = "measure this part only; may be given again"
    parser.add_argument("--only", action="append", choices=_PARTS, help=only)
    rounds = f"how often each is set up (default: {_SETUPS})"
    parser.add_argument("--rounds", type=int, default=_SETUPS, metavar="NUMBER", help=rounds)
    return parser


if __name__ == "__main__":
    sys.exit(main())
