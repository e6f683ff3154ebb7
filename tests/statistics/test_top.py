"""Top lists miss no name with many pulls, in bounded memory, and outlive a restart."""

from __future__ import annotations

from mirror.statistics.top import LISTED, BoundedCounter, Count, TopLists, summed
from tests.support.memory_metadata import MemoryMetadata

NOON = 2_000_001_600  # the begin of an hour


async def loaded(index: MemoryMetadata) -> TopLists:
    """The lists of an index."""
    lists = TopLists(index)
    await lists.load()
    return lists


def test_counts_are_exact_within_the_bound() -> None:
    counter = BoundedCounter(4)
    for name, pulls in (("a", 3), ("b", 1), ("a", 2)):
        counter.add(name, pulls, pulls * 10)
    assert counter.largest(9) == [Count("a", 5, 50), Count("b", 1, 10)]


def test_made_up_names_neither_fill_memory_nor_displace_the_largest() -> None:
    counter = BoundedCounter(100)
    for number in range(5000):
        counter.add(f"made-up-{number}", 1, 1)
        counter.add("real", 1, 1)
    assert len(counter) <= 100
    assert counter.largest(1)[0].name == "real"
    assert counter.largest(1)[0].pulls >= 5000


def test_a_count_is_never_too_small() -> None:
    counter = BoundedCounter(10)
    for number in range(200):
        counter.add(f"other-{number}", 3, 0)
    counter.add("late", 1, 0)
    assert {each.name: each.pulls for each in counter.largest(10)}["late"] >= 1


async def test_hours_are_merged_with_the_current_one() -> None:
    lists = await loaded(MemoryMetadata())
    lists.add("nginx", "10.0.0.1", 2, 20)
    lists.close_hour(NOON)
    lists.add("redis", "10.0.0.1", 1, 10)
    lists.close_hour(NOON + 3600)
    lists.add("nginx", "10.0.0.2", 3, 30)
    now = NOON + 7200
    assert summed(lists.counts("image", NOON, now)) == [
        Count("nginx", 5, 50),
        Count("redis", 1, 10),
    ]
    assert summed(lists.counts("image", NOON + 3600, now))[0] == Count("nginx", 3, 30)
    assert summed(lists.counts("client", NOON, now))[0] == Count("10.0.0.1", 3, 30)


async def test_an_hour_that_is_closed_twice_is_summed() -> None:
    index = MemoryMetadata()
    first = await loaded(index)
    first.add("nginx", "me", 2, 20)
    first.close_hour(NOON)
    again = await loaded(index)
    again.add("nginx", "me", 1, 10)
    again.close_hour(NOON)
    assert summed((await loaded(index)).counts("image", NOON, NOON)) == [Count("nginx", 3, 30)]


async def test_a_crash_loses_no_more_than_what_came_since_the_lists_were_saved() -> None:
    index = MemoryMetadata()
    lists = await loaded(index)
    for pulls in (1, 2):
        lists.add("nginx", "me", pulls, 10)
        lists.save(NOON)
    assert summed(lists.counts("image", NOON, NOON)) == [Count("nginx", 3, 20)]
    again = await loaded(index)
    again.add("nginx", "me", 4, 10)
    again.save(NOON)
    again.close_hour(NOON)
    assert summed((await loaded(index)).counts("image", NOON, NOON)) == [Count("nginx", 7, 30)]


async def test_an_hour_keeps_so_many_names_and_a_list_so_many_hours() -> None:
    index = MemoryMetadata()
    lists = await loaded(index)
    for hour in range(200):
        for number in range(2 * LISTED if hour == 199 else 1):
            lists.add(f"image-{number}", "me", 1, 0)
        lists.close_hour(NOON + hour * 3600)
    rows = await index.top()
    assert len({row.hour for row in rows}) == 192
    assert len([row for row in rows if row.what == "image" and row.hour == rows[-1].hour]) == LISTED
    index.lose()
    assert await index.top() == rows
