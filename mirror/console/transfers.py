"""Transfers: exports and imports by the API, few at a time, and ended at once by a stop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from mirror.console.problem import busy

# At a time: each export keeps content from eviction, each import holds manifests in memory.
_MOST = {"export": 4, "import": 2}
_AGAIN = 30  # seconds


class Transfers:
    """Counts the transfers under way, and ends them when the mirror stops.

    A stop gives pulls a grace period, because an engine that loses one fails a job. An archive is
    of no use before its end, and takes longer than any grace.
    """

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._scopes: set[asyncio.Timeout] = set()
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Transfers: {self._count.total()}>"

    @contextmanager
    def counted(self, kind: str) -> Iterator[None]:
        """Count a transfer while the context lasts; raises Problem if there are too many."""
        if self._count[kind] >= _MOST[kind]:
            raise busy(f"{_MOST[kind]} {kind}s are under way: no more at a time", _AGAIN)
        self._count[kind] += 1
        try:
            yield
        finally:
            self._count[kind] -= 1

    @asynccontextmanager
    async def ended_by_stop(self) -> AsyncIterator[None]:
        """Break off the work of the context as the mirror stops; raises TimeoutError then."""
        async with asyncio.timeout(0 if self._stopping else None) as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def stop(self) -> None:
        """End all transfers."""
        self._stopping = True
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            scope.reschedule(now)
