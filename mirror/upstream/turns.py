"""Turns: whose question an upstream is asked next, where more wait than it has connections for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from mirror.upstream.places import Places

# The client on whose behalf something is done; nobody's where the mirror asks for itself. What a
# request starts has its request's: a question that others join is asked by who began it.
CLIENT: ContextVar[str] = ContextVar("client", default="")
_FEW = 8  # connections, of which none is kept free for others


class Turns:
    """Lets `most` questions be asked at a time, shared fairly by the clients that they are for.

    In the order in which they come, one client that asks for thousands of made-up names would have
    all others wait behind these (measured: ten seconds for a manifest).
    """

    def __init__(self, most: int) -> None:
        self._places = Places(most)
        self._shared = most >= _FEW

    def __repr__(self) -> str:
        return f"<Turns: {self._places!r}>"

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it."""
        owners = (f"client {CLIENT.get()}",) if self._shared else ()
        async with self._places.taken(*owners):
            yield
