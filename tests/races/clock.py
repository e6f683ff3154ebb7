"""Virtual time and seeded randomness, in place before any other import."""

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

# These modules take the true clock at their import, and keep it.
TRUE_TIMERS = (queue, selectors, socket, subprocess, tempfile, threading)
true_time = time.perf_counter  # seconds; a play does not stop them


@dataclass
class Clock:
    """The seconds of the simulation, and the wall clock, which may be set."""

    now: float = 1000.0
    wall: float = field(default_factory=time.time)
    set_by: float = 0.0

    def advance(self, to: float) -> None:
        """Let time pass; never go back."""
        self.now = max(self.now, to)

    def monotonic(self) -> float:
        """Return the time that no step of the clock changes."""
        return self.now

    def on_the_wall(self) -> float:
        """Return the time of the wall clock."""
        return self.wall + self.now + self.set_by


class Chance:
    """Draws by a seed and a label: the n-th draw of one label never depends on another's.

    So a plan with one operation less is played in much the same order.
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
    """Put this clock in place of the true one, and let `random`'s seed decide all random bytes."""
    time.monotonic = clock.monotonic
    time.time = clock.on_the_wall
    time.time_ns = lambda: int(clock.on_the_wall() * 1e9)
    drawn = random.Random(1)
    os.urandom = drawn.randbytes
    random._urandom = drawn.randbytes  # type: ignore[attr-defined]  # of `secrets`


CLOCK = Clock()
install(CLOCK)
