"""The notifier: each waiting task is woken once by each notification."""

from __future__ import annotations

import asyncio

import pytest

from mirror.util.notifier import Notifier


async def begun(*tasks: asyncio.Task[None]) -> None:
    """Let tasks run up to their wait."""
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


async def test_a_notification_wakes_all_that_wait_in_their_order() -> None:
    notifier, woken = Notifier(), list[int]()

    async def wait(number: int) -> None:
        await notifier.changed()
        woken.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(9)]
    await begun(*tasks)
    notifier.notify()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)
    assert woken == [*range(9)]


async def test_a_notification_before_the_wait_wakes_no_task() -> None:
    notifier = Notifier()
    notifier.notify()
    task = asyncio.create_task(notifier.changed())
    await begun(task)
    notifier.notify()
    async with asyncio.timeout(5):
        await task


async def test_a_cancelled_wait_leaves_nothing_and_harms_no_other() -> None:
    notifier = Notifier()
    left, stays = (asyncio.create_task(notifier.changed()) for _ in range(2))
    await begun(left, stays)
    left.cancel()
    notifier.notify()
    async with asyncio.timeout(5):
        await stays
        with pytest.raises(asyncio.CancelledError):
            await left
    assert repr(notifier) == "<Notifier: 0 waiting>"
