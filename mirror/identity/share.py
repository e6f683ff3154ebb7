"""A share of an upstream's pull limit, as it is configured for a client or a network of them."""

from __future__ import annotations

from dataclasses import dataclass

EACH = "*"  # the share of each client without another share


@dataclass(frozen=True, slots=True)
class Share:
    """A number of pulls in a window, or a percentage of its limit."""

    pulls: int | None = None
    percent: float = 0.0

    def of(self, limit: int) -> int:
        """Return the share in pulls; a percentage is at least one pull, to lock no client out."""
        return self.pulls if self.pulls is not None else max(1, int(limit * self.percent / 100))
