"""Look for counterexamples for some minutes: `python -m tests.differential --minutes 60 --seed 7`.

Exits 1 if there is one, and prints how to replay it: `--play 'Scene(…)'`.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from tests.differential.play import played
from tests.differential.scene import Scene, read
from tests.differential.search import Found, shrunk, tried

BATCH = 20  # examples
_SHOWN = 4  # faults that are printed
_A_MINUTE = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the search, or replay a scene; returns the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.play:
        wrong = played(read(asked.play))
        _say("\n".join(wrong) or "nothing is wrong")
        return 1 if wrong else 0
    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    _say(f"seed {seed}")
    search = Search(seed, time.time() + asked.minutes * 60, asked.processes)
    search.run()
    _say(f"seed {seed}: {search.examples} examples, {len(search.found)} counterexamples")
    return 1 if search.found else 0


class Search:
    """Tries batch after batch of a seed, until the time is up, in so many processes."""

    def __init__(self, seed: int, until: float, processes: int) -> None:
        self._seeds = iter(range(seed * 1_000_000, sys.maxsize))
        self._until = until
        self._processes = processes
        self._began = self._said = time.time()
        self.examples = 0
        self.ways: set[str] = set()
        self.found: set[Scene] = set()

    def run(self) -> None:
        """Try batches until the time is up."""
        with ProcessPoolExecutor(self._processes) as pool:
            running = {self._next(pool) for _ in range(self._processes)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for each in done:
                    self._take(pool, each.result())
                    if time.time() < self._until:
                        running.add(self._next(pool))

    def _next(self, pool: ProcessPoolExecutor) -> Future[list[Found]]:
        return pool.submit(batch, next(self._seeds), self._until)

    def _take(self, pool: ProcessPoolExecutor, found: list[Found]) -> None:
        self.examples += BATCH
        for each in self._new(found):
            small = pool.submit(shrunk, each).result()
            self.ways |= {each.way, small.way}
            if small.scene not in self.found:
                self.found.add(small.scene)
                _say(report(small))
        if time.time() > self._said + _A_MINUTE:
            self._said = time.time()
            minutes = (self._said - self._began) / 60
            _say(f"{minutes:5.0f} min  {self.examples} examples  {len(self.found)} counterexamples")

    def _new(self, found: list[Found]) -> Iterator[Found]:
        for each in found:
            if each.way not in self.ways:
                self.ways.add(each.way)
                yield each


def batch(seed: int, until: float) -> list[Found]:
    """Try the examples of a seed, as many as time allows."""
    return tried(seed, BATCH, go_on=lambda: time.time() < until)


def report(found: Found) -> str:
    """Return the faults of a counterexample as text, and the command to replay it."""
    wrong = found.wrong
    more = [f"  … and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    return "\n".join(
        [
            "wrong:",
            *(f"  {each}" for each in wrong[:_SHOWN]),
            *more,
            f'replay: python -m tests.differential --play "{found.scene!r}"',
        ]
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=1.0, help="how long to go on")
    add("--seed", type=int, help="what decides the examples; any, without it")
    add("--processes", type=int, default=2, help="how many examples at a time")
    add("--play", metavar="SCENE", help="play one scene instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
