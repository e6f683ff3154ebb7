"""The headers of an upstream's rate limit, sent with manifests in Docker Hub's format."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from mirror.budget.budget import Budget
from mirror.identity.client import ClientIdentity


class _Rendered(NamedTuple):
    second: int
    lines: str


class LimitHeaders:
    """Renders the known rate limit of a manifest's upstream, for callers that it `trusts`.

    The account or address, which Docker Hub names in docker-ratelimit-source, is left out. Answers
    from memory repeat the lines that were rendered in the same second.
    """

    def __init__(
        self,
        budget: Budget,
        trusts: Callable[[ClientIdentity], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._budget = budget
        self._trusts = trusts
        self._clock = clock
        self._rendered: dict[str, _Rendered] = {}

    def __repr__(self) -> str:
        return f"<LimitHeaders of {len(self._rendered)} upstreams>"

    def lines(self, upstream: str, identity: ClientIdentity, *, warm: bool) -> str:
        """Return the header lines for a manifest; none without a limit, or for untrusted callers.

        `warm` is whether the manifest came from the cache without a request to upstream.
        """
        if not self._trusts(identity):
            return ""
        second = int(self._clock())
        known = self._rendered.get(upstream)
        if not warm or known is None or known.second != second:
            known = self._rendered[upstream] = _Rendered(second, self._render(upstream))
        return known.lines

    def _render(self, upstream: str) -> str:
        window = self._budget.present(upstream).window
        left = window.left(self._budget.now())
        if window.limit is None or left is None:
            return ""
        length = f";w={int(window.length)}"
        return (
            f"RateLimit-Limit: {window.limit}{length}\r\n"
            f"RateLimit-Remaining: {min(left, window.limit)}{length}\r\n"
        )
