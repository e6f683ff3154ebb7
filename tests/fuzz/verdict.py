"""The verdict: the bounds of a daemon's figures after a round. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

STALL = 0.2  # s for which one task may block the loop, by the probe
LAG = 0.5  # s by the daemon's own measure, which includes waits for a disk or another thread
_MIB = 1024 * 1024
PEAK = 320 * _MIB  # above its memory at rest: a few documents of 4 MiB being read
REST = 160 * _MIB  # above the life's beginning, without peers: memory that an allocator keeps
_ROWS = 60_000  # of the index in one round: a dozen documents with as many children as allowed
DESCRIPTORS = 40  # above the life's beginning, once idle connections have ended
_THREADS = 60
_PARTIALS = 200  # files of fetches that can be resumed


Kind: TypeAlias = Literal[
    "answer", "honest client", "log", "stall", "memory", "stop", "books", "errand", "growth"
]
_KINDS: tuple[Kind, ...] = get_args(Kind)  # the worst kind comes first


class Wrong(NamedTuple):
    """A fault, and its kind."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass
class Measured:
    """A daemon's figures: times in seconds, sizes in bytes."""

    stall: float = 0.0
    latency: float = 0.0
    lag: float = 0.0
    slowest: float = 0.0
    resident: int = 0
    peak: int = 0
    descriptors: int = 0
    threads: int = 0
    rows: int = 0
    empties: int = 0
    partials: int = 0


def judged(base: Measured, before: Measured, now: Measured, pace: float = 1.0) -> list[Wrong]:
    """Return the excesses after a round, beside the life's beginning and the round before.

    `pace` is how many times longer work takes than on a quiet machine (`tests/support/pace.py`).
    """
    rows = now.rows - max(before.rows, base.rows)
    found: list[tuple[bool, Kind, str]] = [
        (
            now.stall > STALL * pace,
            "stall",
            f"the loop did one thing for {now.stall * 1000:.0f} ms",
        ),
        (
            now.lag > max(LAG, before.lag) * pace,
            "stall",
            f"the daemon measured a lag of {now.lag * 1000:.0f} ms",
        ),
        (now.peak > base.resident + PEAK, "memory", f"{now.peak // _MIB} MiB at the most"),
        (now.resident > base.resident + REST, "growth", f"{now.resident // _MIB} MiB at rest"),
        (now.descriptors > base.descriptors + DESCRIPTORS, "growth", f"{now.descriptors} open"),
        (now.threads > _THREADS, "growth", f"{now.threads} threads"),
        (rows > _ROWS, "growth", f"{rows} rows of the index in one round"),
        (now.empties > 0, "growth", f"{now.empties} empty files in partial/"),
        (now.partials > _PARTIALS, "growth", f"{now.partials} files in partial/"),
    ]
    return [Wrong(kind, text) for is_so, kind, text in found if is_so]


def worst(wrong: Sequence[Wrong]) -> str:
    """Return the worst kind."""
    return min((each.kind for each in wrong), key=_KINDS.index)
