"""Turns: long work on the event loop, interrupted for other tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")
PART = 128  # values between two turns of other tasks


async def paced(values: Iterable[T], part: int = PART) -> AsyncIterator[T]:
    """Yield the values, and let other tasks run after each `part` of them.

    The collection behind the values may change meanwhile: pass a copy of it.
    """
    for number, value in enumerate(values, 1):
        yield value
        if not number % part:
            await asyncio.sleep(0)
