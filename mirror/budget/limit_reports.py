"""Upstream's reports of the pulls left, as its answers overtake each other. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class LimitReport(NamedTuple):
    """An answer: `at` is its time of arrival, `left` the number of pulls left when it was given.

    `returned` are the pulls that had come back by then, or may have; `unnumbered` are the pulls
    that were counted from answers without a number. Both are totals since the start.
    """

    left: int
    at: float
    returned: int
    unnumbered: int

    def left_now(self, returned: int, unnumbered: int) -> int:
        """Return the pulls left by this answer, and by the events since."""
        return self.left + max(0, returned - self.returned) - (unnumbered - self.unnumbered)


class LimitReports:
    """The reports, any of which may be the newest; the lowest number counts."""

    def __init__(self) -> None:
        self._reports: deque[LimitReport] = deque()

    def __repr__(self) -> str:
        return f"<LimitReports: {len(self._reports)}>"

    def clear(self) -> None:
        """Forget all reports: they are about another limit."""
        self._reports.clear()

    def add(self, report: LimitReport, sent: float, returned: int) -> None:
        """Add the answer to a question of the time `sent`, and drop the useless ones.

        An answer that arrived before the question was sent is the older of the two. `returned` are
        the pulls that have come back for certain.
        """
        now = returned, report.unnumbered
        while self._reports and self._reports[0].at < sent:
            self._reports.popleft()
        while self._reports and self._reports[-1].left_now(*now) >= report.left:
            self._reports.pop()  # never the lowest again: more comes back to the older one
        self._reports.append(report)

    def lowest(self, returned: int, unnumbered: int) -> int:
        """Return the lowest number of pulls left, by these totals of now."""
        return min(report.left_now(returned, unnumbered) for report in self._reports)
