"""Tables for people: the age of things, and lines no wider than the terminal."""

from __future__ import annotations

import shutil
import sys
import time

from mirror.util.units import duration

_NARROW = 40  # columns


def ago(at: int, now: float | None = None) -> str:
    """Return how long ago a time was, in seconds since the epoch: `5 min`; `-` if not known."""
    if not at:
        return "-"
    words = duration(max(0.0, (time.time() if now is None else now) - at)).split()
    return " ".join(words[:2])


def fitted(line: str) -> str:
    """Return a line, cut where the terminal ends; whole if the output is no terminal."""
    if not sys.stdout.isatty():
        return line
    width = max(_NARROW, shutil.get_terminal_size().columns)
    return line if len(line) <= width else line[: width - 1] + "…"
