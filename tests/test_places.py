"""Places: whoever holds few is served first, and no crowd of slow ones takes the last."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cache.places import Places


@pytest.mark.parametrize("slow", [1, 2, 3, 5])
def test_however_many_hold_on_to_theirs_one_more_has_a_place(slow: int) -> None:
    places = Places(48)
    for _ in range(48):
        for number in range(slow):
            places.try_take(f"slow {number}")
    assert places.try_take("another")


async def test_who_holds_fewest_is_next() -> None:
    places, served = Places(4), list[str]()

    async def want(owner: str) -> None:
        await places.take(owner)
        served.append(owner)

    for owner in ("greedy", "greedy", "greedy", "modest"):
        await places.take(owner)
    waiting = [asyncio.create_task(want(owner)) for owner in ("greedy", "modest", "new")]
    await asyncio.sleep(0)
    places.give("greedy")
    await asyncio.sleep(0)
    assert served == ["new"]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@given(st.lists(st.tuples(st.sampled_from(["take", "leave", "give"]), st.sampled_from("abc"))))
def test_no_place_is_lost_or_made_up(steps: list[tuple[str, str]]) -> None:
    asyncio.run(played(steps))


async def played(steps: list[tuple[str, str]]) -> None:
    """Take places, give them back, and leave while waiting: at the end all are free."""
    places, tasks = Places(3), list[tuple[str, asyncio.Task[None]]]()
    for step, owner in steps:
        if step == "take":
            tasks.append((owner, asyncio.create_task(places.take(owner))))
            await asyncio.sleep(0)
        elif step == "leave" and tasks:
            tasks[-1][1].cancel()
        elif held := [each for each in tasks if each[1].done() and not each[1].cancelled()]:
            tasks.remove(held[0])
            places.give(held[0][0])
    for _, task in tasks:
        task.cancel()
    await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
    for owner, task in tasks:
        if not task.cancelled():
            places.give(owner)
    assert repr(places) == "<Places: 0 held, 3 free, 0 waiting>"
