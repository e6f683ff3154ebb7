"""Commands: the CPU that each takes, alone and beside a running mirror, now and before."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.figures import MIRROR, Figure, Samples, at_most
from bench.processes import Failed, Process, free_port
from bench.servers import CHECKOUT
from bench.start.checkouts import checkout

BEFORE = "76fe9a3"  # the last commit whose commands loaded all there is
PASS = "python3 -c pass"
_ALONE = (("--version",), ("--help",), ("completion", "bash"))
_BESIDE = ("budget", "du")
_NOWHERE = "http://127.0.0.1:1"
_WITHIN = 60.0  # seconds
_PYTHON = (sys.executable, "-m", "mirror")


def commands(folder: Path, rounds: int, say: Callable[[str], None]) -> Iterator[Figure]:
    """Run each command so many times; where the commit of before is missing, that is said."""
    for words in _ALONE:
        alone = {
            MIRROR: (CHECKOUT, (*_PYTHON, *words)),
            PASS: (CHECKOUT, (sys.executable, "-c", "pass")),
        }
        what = f"mirror {' '.join(words)}, CPU"
        yield Figure("commands", what, "s", _measured(alone, rounds), at_most(0.15, None))
    yield from _beside(folder, rounds, say)


def _beside(folder: Path, rounds: int, say: Callable[[str], None]) -> Iterator[Figure]:
    """Run those that talk to a running mirror, each beside its own."""
    try:
        before = checkout(BEFORE, folder / "before")
    except Failed as error:
        say(f"commands of before are left out: {error}")
        return
    with ExitStack() as stack:
        data = {tree: _serving(stack, tree, folder) for tree in (CHECKOUT, before)}
        for command in _BESIDE:
            beside = {
                name: (tree, (*_PYTHON, command, "--data-dir", str(data[tree])))
                for name, tree in ((MIRROR, CHECKOUT), (BEFORE, before))
            }
            what = f"mirror {command}, beside a running mirror, CPU"
            measured = _measured(beside, rounds)
            yield Figure("commands", what, "s", measured, at_most(0.5, BEFORE))


def _measured(ways: Mapping[str, tuple[Path, Sequence[str]]], rounds: int) -> Samples:
    samples: Samples = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (tree, words) in ways.items():
            samples[name].append(_cpu(words, tree))
    return samples


def _cpu(words: Sequence[str], tree: Path) -> float:
    """Run a command of a tree, which is the one that Python looks in first; returns its CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, cwd=tree, stdout=subprocess.DEVNULL, timeout=_WITHIN, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _serving(stack: ExitStack, tree: Path, folder: Path) -> Path:
    """Have a tree's mirror serve; returns where its data is."""
    data = folder / f"data-{tree.name}"
    port = free_port()
    command = [*_PYTHON, "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", str(data)]
    command += ["--upstream", f"docker.io={_NOWHERE}"]
    process = Process(f"mirror-{tree.name}", command, folder, tree)
    stack.callback(process.stop)
    process.ready(f"http://127.0.0.1:{port}", "/readyz")
    return data
