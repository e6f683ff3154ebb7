"""Work that runs to its end, even if its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

V = TypeVar("V")


async def wait_until_done(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Wait until tasks are done; their results and exceptions count as retrieved."""
    await asyncio.gather(*tasks, return_exceptions=True)


async def run_to_completion(work: Coroutine[Any, Any, V]) -> V:
    """Return the result of the work, or raise its exception; a cancelled task waits for it.

    For work that must not be left half done. A cancellation, or several, takes effect when the work
    is over.
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
            task.exception()  # retrieved: no caller is left to raise it in
        raise asyncio.CancelledError
    return task.result()
