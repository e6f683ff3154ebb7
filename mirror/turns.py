"""Turns: long work on the event loop, with turns for others between its parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")
PART = 128  # things done before others have their turn


async def paced(values: Iterable[T], part: int = PART) -> AsyncIterator[T]:
    """Return values with turns for others between so many of them.

    What the values are taken from may change in these turns: a copy of it is wanted here.
    """
    for number, value in enumerate(values, 1):
        yield value
        if not number % part:
            await asyncio.sleep(0)
