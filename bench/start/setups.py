"""The first set-up: what `make run` waits for, beside what `make test` does."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.figures import MIRROR, Figure, Samples, at_most
from bench.processes import Failed
from bench.start.checkouts import checkout

TEST = "make test"
_TARGETS = {MIRROR: ".venv/runs", TEST: ".venv/ready"}  # what each makes before it begins
_WITHIN = 1800.0  # seconds


def setups(folder: Path, rounds: int) -> list[Figure]:
    """Set up so many times by each, in turn, and in a fresh checkout each time."""
    samples: Samples = {name: [] for name in _TARGETS}
    for number in range(rounds):
        for name, target in _TARGETS.items():
            fresh = checkout("HEAD", folder / f"setup-{number}")
            samples[name].append(_seconds(fresh, target))
            shutil.rmtree(fresh)
    return [Figure("setups", "make run, first set-up", "s", samples, at_most(0.35, TEST))]


def _seconds(fresh: Path, target: str) -> float:
    began = time.perf_counter()
    made = subprocess.run(
        ("make", "-C", fresh, f"PYTHON={sys.base_prefix}/bin/python3", target),
        capture_output=True,
        text=True,
        timeout=_WITHIN,
        check=False,
    )
    if made.returncode:
        raise Failed(f"make {target}: {made.stderr.strip()[-500:]}")
    return time.perf_counter() - began
