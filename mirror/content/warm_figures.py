"""The figures of warming: images, pulls and bytes since the start, and the last result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class WarmFigures:
    """Counts since the start. `last_ended` is in epoch seconds, 0 before the first run's end.

    `last_failed` is the number of images that failed in the last run.
    """

    running: int = 0
    warmed: int = 0
    failed: int = 0
    pulls: int = 0
    bytes: int = 0
    last_ended: float = 0.0
    last_failed: int = 0
