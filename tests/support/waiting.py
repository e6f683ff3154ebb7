"""Waiting for a state that announces itself by no event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable

_LOOK_EVERY = 0.01  # seconds; the loop and the core are free for the mirror in between


async def until(holds: Callable[[], bool | Awaitable[bool]], within: float = 10) -> None:
    """Wait until a condition holds, `within` seconds at most; else raises TimeoutError.

    A hub's requests are events: `Hub.seen` waits for them. What depends on the time of a part that
    takes its clock from outside needs no wait: the test sets the clock.
    """
    async with asyncio.timeout(within):
        while not await _holds(holds()):  # noqa: ASYNC110 - the state announces itself by no event
            await asyncio.sleep(_LOOK_EVERY)


async def _holds(answer: bool | Awaitable[bool]) -> bool:
    return await answer if isawaitable(answer) else answer
