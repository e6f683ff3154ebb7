"""The command: what is asked for, what is missing, and that all ends in order."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import report
from bench.client import Refused
from bench.figures import Figure
from bench.processes import Failed
from bench.rows import FULL, QUICK, ROWS, measure

_PACKAGES = {"wrk": "wrk", "docker-registry": "docker-registry"}
_HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns 0 whether or not the bars were reached, 2 where a program is missing."""
    asked = _parser().parse_args(arguments)
    if missing := [name for name in _PACKAGES if shutil.which(name) is None]:
        packages = " ".join(_PACKAGES[name] for name in missing)
        _say(f"bench: {', '.join(missing)} not found: apt-get install {packages}")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so all is cleaned up
    try:
        _run(asked)
    except KeyboardInterrupt:
        _say("bench: interrupted")
        return 128 + signal.SIGINT
    except (Failed, Refused, OSError) as error:
        _say(f"bench: {error}")
        return 1
    return 0


def _run(asked: argparse.Namespace) -> None:
    neighbours = report.Neighbours()
    rows = [row for row in ROWS if not asked.only or row.name in asked.only]
    figures: list[Figure] = []
    for figure in measure(rows, QUICK if asked.quick else FULL, _say):
        figures.append(figure)
        _say("  ".join(filter(None, report.cells(figure))))
    where = report.machine(neighbours.cores())
    print("\n".join([*where.lines(), "", report.as_text(figures), ""]))
    print("\n".join([*report.remarks(figures), report.summary(figures)]))
    if asked.quick or asked.only:
        _say("bench: RESULT.md and result.json are left alone: only a full run writes them")
        return
    (_HERE / "RESULT.md").write_text(report.as_markdown(where, figures))
    (_HERE / "result.json").write_text(report.as_json(where, figures))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the mirror beside Debian's docker-registry. Takes half an hour and "
        "10 GB under TMPDIR.",
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it works")
    names = [row.name for row in ROWS]
    only = "measure this row only; may be given again"
    parser.add_argument("--only", action="append", choices=names, help=only)
    return parser


if __name__ == "__main__":
    sys.exit(main())
