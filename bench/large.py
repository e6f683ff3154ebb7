"""Rows of a large cache: its starts, its memory and its stops, beside those of an empty one."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.figures import MIRROR, Bar, Figure, at_most
from bench.footprint import fill
from bench.servers import start_mirror
from bench.site import Site

_LIVES = 3  # of each kind
_EMPTY = "empty"
_MB = 1e6
_PER_SECOND = 16_000  # blobs; a million make it run for a minute


@dataclass(frozen=True, slots=True)
class Life:
    """One run of the mirror: seconds until it serves, megabytes then, seconds of its stop."""

    ready: float
    memory: float
    stop: float


def starts(site: Site) -> list[Figure]:
    """Start with many blobs: after each kind of end, and without the index."""
    count = site.scale.large_blobs
    folder, of = site.folder / "large", f"{count:,} blobs"
    empty = [_life(site, site.folder / f"empty{number}") for number in range(_LIVES)]
    fill(folder / "data" / "blobs" / "sha256", count)
    built = _life(site, folder, seconds=count / _PER_SECOND)
    _life(site, folder, seconds=count / _PER_SECOND)  # writes what a stop left out
    clean = [_life(site, folder) for _ in range(_LIVES)]
    killed = [_life(site, folder, kill=True) for _ in range(_LIVES)][1:]
    shutil.rmtree(folder)
    nothing = [each.ready for each in empty]
    return [
        _start(f"start with {of}, after a clean stop", clean, nothing, 1.5),
        _start(f"start with {of}, after kill -9", killed, nothing, 1.5),
        _start(f"start with {of}, with the index deleted", [built], nothing, 2),
        Figure(
            "large",
            f"VmRSS after a start with {of}",
            "MB",
            {MIRROR: [each.memory for each in clean], _EMPTY: [each.memory for each in empty]},
            at_most(1.5, _EMPTY),
        ),
        Figure(
            "large",
            f"stop after a start with {of} and the index deleted",
            "s",
            {MIRROR: [built.stop]},
            Bar("at most", 5, None),
        ),
    ]


def _start(what: str, lives: list[Life], nothing: list[float], bar: float) -> Figure:
    samples = {MIRROR: [each.ready for each in lives], _EMPTY: nothing}
    return Figure("large", what, "s", samples, at_most(bar, _EMPTY))


def _life(site: Site, folder: Path, *, seconds: float = 0, kill: bool = False) -> Life:
    with ExitStack() as stack:
        mirror = start_mirror(stack, folder, site.hub.url)
        memory = mirror.process.memory().now / _MB
        time.sleep(seconds)
        began = time.perf_counter()
        if kill:
            mirror.process.kill()
        else:
            mirror.process.stop()
        return Life(mirror.ready, memory, time.perf_counter() - began)
