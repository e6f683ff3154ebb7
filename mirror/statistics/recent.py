"""Recent requests that were no plain hits, in bounded lists."""

from __future__ import annotations

from collections import deque
from heapq import merge
from typing import NamedTuple

_MOST = 200


class NoHit(NamedTuple):
    """A request that was no plain hit. `at` in epoch seconds, `sent` in bytes.

    `cause` says why, as far as that is known; `request` is the id in its log line.
    """

    at: float
    client: str
    user: str
    image: str
    method: str
    status: int
    outcome: str
    cause: str
    sent: int
    seconds: float
    request: str


class RecentRequests:
    """The last errors and stale answers, and apart from them the last other ones.

    So the misses of a fresh cache do not push out the errors.
    """

    def __init__(self) -> None:
        self._wrong: deque[NoHit] = deque(maxlen=_MOST)
        self._others: deque[NoHit] = deque(maxlen=_MOST)

    def __repr__(self) -> str:
        return f"<RecentRequests: {len(self._wrong)} of them wrong>"

    def add(self, request: NoHit) -> None:
        """Remember a request."""
        wrong = request.outcome in ("error", "stale", "refused")
        (self._wrong if wrong else self._others).append(request)

    def newest(self) -> list[NoHit]:
        """Return all, newest first."""
        lists = reversed(self._wrong), reversed(self._others)
        return list(merge(*lists, key=lambda request: -request.at))
