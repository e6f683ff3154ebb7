"""Work that goes to its end, whoever stops waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

V = TypeVar("V")


async def over(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Wait until tasks are done; what came of them counts as seen."""
    await asyncio.gather(*tasks, return_exceptions=True)


async def to_the_end(work: Coroutine[Any, Any, V]) -> V:
    """Return what the work does, raising what it raises; a task that is cancelled waits for it.

    For work that would leave things half done. The cancellation, of which there may be several,
    takes effect when the work is over.
    """
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        if not task.cancelled():
            task.exception()  # seen: nobody is left to tell
        raise asyncio.CancelledError
    return task.result()
