"""The queue of requests that wait for one of an upstream's connections, in a fair order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from mirror.util.fair_semaphore import FairSemaphore

# The client that the current task works for; empty for the mirror's own requests. Tasks inherit it
# from the request that started them: a shared request is charged to the client that began it.
CLIENT: ContextVar[str] = ContextVar("client", default="")
_FEW = 8  # with fewer connections, none is kept free for other clients


class ConnectionQueue:
    """Allows `most` concurrent requests, shared fairly by the clients behind them.

    In plain order of arrival, a client with thousands of made-up names would make all others wait
    behind these (measured: ten seconds for a manifest).
    """

    def __init__(self, most: int) -> None:
        self._semaphore = FairSemaphore(most)
        self._shared = most >= _FEW

    def __repr__(self) -> str:
        return f"<ConnectionQueue: {self._semaphore!r}>"

    @property
    def at_ease(self) -> bool:
        """Whether half of the connections stay free after one more request."""
        return self._semaphore.half_free

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it."""
        owners = (f"client {CLIENT.get()}",) if self._shared else ()
        async with self._semaphore.taken(*owners):
            yield
