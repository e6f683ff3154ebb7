"""Background jobs: work that goes on beside the requests until the mirror stops."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from mirror.app.systemd import notify, watchdog_interval
from mirror.budget.budget import Budget
from mirror.budget.demand import Demand

_log = logging.getLogger(__name__)

_PRUNE_EVERY = 3600  # seconds


def run(stack: AsyncExitStack, *jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs until the end of the stack; the failure of one is logged at once."""
    for job in jobs:
        task = asyncio.create_task(job, name=getattr(job, "__qualname__", None))
        task.add_done_callback(_tell)
        stack.push_async_callback(_cancel, task)


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        words = "the job %s has failed, and is not done until the mirror is restarted"
        _log.critical(words, task.get_name(), exc_info=failure)


async def _cancel(task: asyncio.Task[None]) -> None:
    """Stop a job. Its failure is in the log already, and does not disturb the stop."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
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
