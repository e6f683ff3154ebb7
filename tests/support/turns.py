"""Turns of the event loop, counted: work that takes long must let other tasks run meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def turns_of(work: Awaitable[T]) -> tuple[T, int]:
    """Return a result, and the number of turns that another task had before it."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    try:
        return await work, turns
    finally:
        counting.cancel()
