"""Medians of recent measurements: of answers' times and of rates."""

from __future__ import annotations

from collections import deque
from statistics import median

_LAST = 101  # measurements


class Recent:
    """The last measurements, each with its time by a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, float]] = deque(maxlen=_LAST)

    def __repr__(self) -> str:
        return f"<Recent: {len(self)} measurements>"

    def __len__(self) -> int:
        return len(self._values)

    def add(self, now: float, value: float) -> None:
        """Add a measurement."""
        self._values.append((now, value))

    def since(self, time: float) -> list[float]:
        """Return the measurements since then."""
        return [value for at, value in self._values if at >= time]

    def median(self) -> float | None:
        """Return the median; None without a measurement."""
        return median(value for _, value in self._values) if self._values else None
