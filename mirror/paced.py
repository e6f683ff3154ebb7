"""Many small steps on the event loop, with turns for others between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")
SLICE = 128  # things done on the loop before others have their turn


async def paced(values: Iterable[T]) -> AsyncIterator[T]:
    """Return values; whoever goes through them can be cancelled at each turn."""
    for number, value in enumerate(values, 1):
        yield value
        if not number % SLICE:
            await asyncio.sleep(0)
