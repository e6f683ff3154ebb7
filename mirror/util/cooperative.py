"""Cooperative work: a long loop on the event loop, in batches, between which other tasks run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")
BATCH = 128  # values between two turns of other tasks


async def cooperatively(values: Iterable[T], batch: int = BATCH) -> AsyncIterator[T]:
    """Yield the values, and let other tasks run after each `batch` of them.

    The collection behind the values may change meanwhile: pass a copy of it.
    """
    for number, value in enumerate(values, 1):
        yield value
        if not number % batch:
            await asyncio.sleep(0)
