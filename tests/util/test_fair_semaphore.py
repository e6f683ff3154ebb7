"""Places: owners of few are served first, and a crowd of slow owners leaves some to others."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.util.fair_semaphore import FairSemaphore, Owners


@pytest.mark.parametrize("slow", [1, 2, 3, 5])
def test_however_many_hold_on_to_theirs_one_more_has_a_place(slow: int) -> None:
    places = FairSemaphore(48)
    for _ in range(48):
        for number in range(slow):
            places.try_take(f"slow {number}")
    assert places.try_take("another")


async def test_the_waiter_that_holds_fewest_is_next() -> None:
    places, served = FairSemaphore(4), list[str]()

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
    """Take places, give them back, and leave while waiting: all places are free at the end."""
    places, tasks = FairSemaphore(3), list[tuple[str, asyncio.Task[None]]]()
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
    assert repr(places) == "<FairSemaphore: 0 held, 3 free, 0 waiting>"


UPSTREAMS, CLIENTS = ["", "u", "v"], ["a", "b", "c"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "take", "leave", "give"]),
            st.sampled_from(UPSTREAMS),
            st.sampled_from(CLIENTS),
            st.integers(0, 99),
        ),
        max_size=60,
    ),
    st.integers(1, 5),
)
def test_the_holder_of_fewest_is_served_then_the_longest_waiter(
    steps: list[tuple[str, str, str, int]], most: int
) -> None:
    asyncio.run(compared(steps, most))


async def compared(steps: list[tuple[str, str, str, int]], most: int) -> None:
    """Run the steps on `Plain` too, which looks at all waiters each time: both serve the same."""
    places, plain, tasks = FairSemaphore(most), Plain(most), dict[int, asyncio.Task[None]]()
    for number, (step, upstream, client, which) in enumerate(steps):
        running = sorted(tasks)
        if step == "take":
            owners: Owners = (upstream, client) if upstream else (client,)
            tasks[number] = asyncio.create_task(places.take(*owners))
            plain.take(number, owners)
        elif running:
            chosen = running[which % len(running)]
            owners = plain.owners[chosen]
            if step == "give" and chosen in plain.holds:
                places.give(*owners)
                plain.give(chosen)
                del tasks[chosen]
            elif step == "leave" and chosen not in plain.holds:
                tasks.pop(chosen).cancel()
                plain.waits.remove(chosen)
        for _ in range(3):
            await asyncio.sleep(0)
        assert {each for each, task in tasks.items() if task.done()} == plain.holds
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


class Plain:
    """The promise of the semaphore, as plain code for ten clients."""

    def __init__(self, most: int) -> None:
        self.free = most
        self.owners: dict[int, Owners] = {}
        self.holds: set[int] = set()
        self.waits: list[int] = []
        self.turns: list[Owners] = []  # waiting owners; those served last stand at the end

    def held(self, owner: str) -> int:
        """Count an owner's places."""
        return sum(owner in self.owners[each] for each in self.holds)

    def may(self, owners: Owners) -> bool:
        """Whether these owners may have one more place."""
        return self.free > 0 and all(
            not self.held(each) or self.held(each) + 1 <= 3 * (self.free - 1) for each in owners
        )

    def line(self) -> list[Owners]:
        """Return the owners that wait, in the order of their turns."""
        waiting = [self.owners[each] for each in self.waits]
        self.turns = [each for each in self.turns if each in waiting]
        self.turns += [each for each in dict.fromkeys(waiting) if each not in self.turns]
        return self.turns

    def take(self, number: int, owners: Owners) -> None:
        """Hold a place, or wait."""
        self.owners[number] = owners
        if owners not in self.line() and self.may(owners):
            self.hold(number)
        else:
            self.waits.append(number)
            self.line()

    def hold(self, number: int) -> None:
        """Take a place."""
        self.free -= 1
        self.holds.add(number)

    def give(self, number: int) -> None:
        """Give a place back, and hand it to the next waiter."""
        self.free += 1
        self.holds.remove(number)
        while able := [each for each in self.line() if self.may(each)]:
            owners = min(able, key=lambda owners: [self.held(each) for each in owners])
            served = next(each for each in self.waits if self.owners[each] == owners)
            self.waits.remove(served)
            self.turns.remove(owners)
            if owners in self.line():
                self.turns.remove(owners)
                self.turns.append(owners)
            self.hold(served)


@pytest.mark.parametrize("upstreams", [["hub"], []], ids=["of several", "alone"])
async def test_ten_thousand_waiters_cost_no_more_each_than_ten(upstreams: list[str]) -> None:
    """A look at all waiters for each waiter took 67 s of the loop."""
    places, served = FairSemaphore(64), 0

    async def want(client: str) -> None:
        nonlocal served
        async with places.taken(*upstreams, client):
            await asyncio.sleep(0)
            served += 1

    began = time.thread_time()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(10_000):
            group.create_task(want(f"client {number}"))
    assert served == 10_000
    assert time.thread_time() - began < 5


async def test_a_waiter_that_leaves_is_not_remembered() -> None:
    places = FairSemaphore(1)
    assert places.try_take("first")
    for number in range(2000):
        waiting = asyncio.create_task(places.take(f"client {number}"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    staying = asyncio.create_task(places.take("first"))
    await asyncio.sleep(0)
    [queue] = places._queues.values()
    assert len(queue._heap) < 200
    places.give("first")
    async with asyncio.timeout(5):
        await staying
