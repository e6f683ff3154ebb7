"""Background jobs: work that goes on beside the requests until the mirror stops."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from mirror.app.systemd import notify, watchdog_interval
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand

_PRUNE_EVERY = 3600  # seconds


def run(stack: AsyncExitStack, *jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs until the end of the stack."""
    for job in jobs:
        stack.push_async_callback(_cancel, asyncio.create_task(job))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def keep_count(budget: Budget, demand: Demand) -> None:
    """Log gates that shut or open, enter the requested pulls, and prune the ledger, for ever."""
    for seconds in itertools.count(1):
        await asyncio.sleep(1)
        budget.tick()
        demand.tick()
        if seconds % _PRUNE_EVERY == 0 or budget.ledger.grown:
            await budget.prune()


async def feed_watchdog() -> None:
    """Notify systemd's watchdog from the event loop, if there is one."""
    interval = watchdog_interval()
    while interval:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
