"""Virtual time, and chance that follows from a seed: in place before anything else is imported."""

from __future__ import annotations

import hashlib
import os
import queue
import random
import selectors
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

# These take the true clock at their import, and are to keep it.
TRUE_TIMERS = (queue, selectors, socket, subprocess, tempfile, threading)
true_time = time.perf_counter  # seconds, which go on whatever is played


@dataclass
class Clock:
    """The seconds that pass as the simulation has it, and those on the wall, which may be set."""

    now: float = 1000.0
    wall: float = field(default_factory=time.time)
    set_by: float = 0.0

    def advance(self, to: float) -> None:
        """Let time pass; it never goes back."""
        self.now = max(self.now, to)

    def monotonic(self) -> float:
        """Return what no step of the clock changes."""
        return self.now

    def on_the_wall(self) -> float:
        """Return what the clock on the wall shows."""
        return self.wall + self.now + self.set_by


class Chance:
    """Draws by a seed and a label: the n-th draw of one label never depends on another's.

    So a plan with an operation less is still played in much the same order.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._drawn: Counter[str] = Counter()

    def share(self, label: str) -> float:
        """Return the label's next number, from 0 up to 1."""
        self._drawn[label] += 1
        text = f"{self._seed}/{label}/{self._drawn[label]}"
        drawn = hashlib.blake2b(text.encode(), digest_size=7).digest()
        return int.from_bytes(drawn) / (1 << 56)


def install(clock: Clock) -> None:
    """Show everybody this clock, and let all that is drawn follow from the seed of `random`."""
    time.monotonic = clock.monotonic
    time.time = clock.on_the_wall
    time.time_ns = lambda: int(clock.on_the_wall() * 1e9)
    drawn = random.Random(1)
    os.urandom = drawn.randbytes
    random._urandom = drawn.randbytes  # type: ignore[attr-defined]  # of `secrets`


CLOCK = Clock()
install(CLOCK)
