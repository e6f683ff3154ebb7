"""The history outlives restarts and losses, in bounds, at any time of the clock."""

from __future__ import annotations

import pytest

from mirror.statistics.history import ITSELF, STEPS, History
from mirror.statistics.series import NOTHING
from mirror.storage.metadata.protocol import MetadataError
from mirror.storage.metadata.rows import HistoryRow
from tests.support.memory_metadata import MemoryMetadata

HUB = "docker.io"
NOON = 2_000_001_600  # the begin of an hour
ONE = NOTHING._replace(requests=1)


async def loaded(index: MemoryMetadata) -> History:
    """The history of an index."""
    history = History(index)
    await history.load()
    return history


async def test_each_minute_counts_in_its_ten_minutes_and_its_hour() -> None:
    history = await loaded(MemoryMetadata())
    for minute in (0, 60, 600, 3600):
        history.add(HUB, NOON + minute, ONE)
    for step, sums in ((60, [1, 1, 1, 1]), (600, [2, 1, 1]), (3600, [3, 1])):
        part = history.part(HUB, step, NOON, NOON + 7200)
        assert [figures.requests for _, figures in part.by(step)] == sums


async def test_all_upstreams_together_are_summed() -> None:
    history = await loaded(MemoryMetadata())
    history.add(HUB, NOON, ONE)
    history.add("ghcr.io", NOON, ONE)
    assert history.total(None, 60, NOON, NOON + 60).requests == 2
    assert history.total("ghcr.io", 60, NOON, NOON + 60).requests == 1
    assert history.total("quay.io", 60, NOON, NOON + 60) == NOTHING


async def test_a_restart_goes_on_with_the_same_minute() -> None:
    index = MemoryMetadata()
    (await loaded(index)).add(HUB, NOON, ONE)
    again = await loaded(index)
    again.add(HUB, NOON, ONE)
    for step in STEPS:
        assert again.total(HUB, step, NOON, NOON + 60).requests == 2
        assert again.total(None, step, NOON, NOON + 60).requests == 2
    assert {row.figures.requests for row in await index.history()} == {2}


async def test_rows_beyond_the_bound_leave_the_index_too() -> None:
    index = MemoryMetadata()
    history = await loaded(index)
    for minute in range(STEPS[60] + 5):
        history.add(ITSELF, NOON + minute * 60, ONE)
    minutes = [row.at for row in await index.history() if row.step == 60]
    assert len(minutes) == STEPS[60]
    assert minutes[0] == NOON + 5 * 60


async def test_a_clock_that_was_wrong_costs_no_history() -> None:
    index = MemoryMetadata()
    (await loaded(index)).add(HUB, NOON, ONE)
    history = await loaded(index)
    for wrong in (0, 2 * NOON):
        history.add(HUB, wrong, ONE)
    assert history.total(HUB, 60, NOON, NOON + 60) == ONE
    assert (await loaded(index)).total(HUB, 3600, NOON, NOON + 3600) == ONE


async def test_a_clock_that_is_behind_leaves_a_full_history_as_it_is() -> None:
    index = MemoryMetadata()
    history = await loaded(index)
    for minute in range(STEPS[60]):
        history.add(ITSELF, NOON + minute * 60, ONE)
    before = [row for row in await index.history() if row.step == 60]
    history.add(ITSELF, 0, ONE)
    assert [row for row in await index.history() if row.step == 60] == before


async def test_upstreams_beyond_the_bound_count_as_the_mirrors() -> None:
    index = MemoryMetadata()
    history = await loaded(index)
    for number in range(40):
        history.add(f"r{number}.example", NOON, ONE)
    assert history.total(None, 60, NOON, NOON + 60).requests == 40
    assert len({row.upstream for row in await index.history()}) <= 17
    assert history.total(ITSELF, 60, NOON, NOON + 60).requests > 0


async def test_an_upstream_that_is_long_gone_leaves_its_place_to_another() -> None:
    index = MemoryMetadata()
    history = await loaded(index)
    history.add("gone.example", NOON, ONE)
    later = NOON + 40 * 86400
    for upstream in (ITSELF, *(f"r{number}.example" for number in range(14))):
        history.add(upstream, later, ONE)
    history.add("new.example", later, ONE)
    assert history.total("new.example", 3600, later, later + 3600) == NOTHING
    again = await loaded(index)
    again.add("new.example", later + 60, ONE)
    assert again.total("new.example", 3600, later, later + 3600) == ONE
    for each in (again, await loaded(index)):
        assert each.total("gone.example", 3600, NOON, NOON + 3600) == NOTHING
        assert each.total(ITSELF, 3600, NOON, NOON + 3600) == ONE
        assert each.total(None, 3600, NOON, NOON + 3600) == ONE
    assert not [row for row in await index.history() if row.upstream == "gone.example"]


async def test_the_rows_of_an_upstream_that_is_gone_cost_the_mirror_none() -> None:
    index = MemoryMetadata()
    history = await loaded(index)
    for minute in range(100):
        history.add("gone.example", NOON + minute * 60, ONE)
    later = NOON + 40 * 86400
    for number in range(14):
        history.add(f"r{number}.example", later, ONE)
    minutes = [later + minute * 60 for minute in range(STEPS[60])]
    for minute in minutes:
        history.add(ITSELF, minute, ONE)
    await loaded(index)
    rows = [row for row in await index.history() if row.step == 60]
    assert not [row for row in rows if row.upstream == "gone.example"]
    assert [row.at for row in rows if row.upstream == ITSELF] == minutes


async def test_upstreams_that_were_asked_lately_keep_their_places() -> None:
    index = MemoryMetadata()
    history = await loaded(index)
    for number in range(20):
        history.add(f"r{number}.example", NOON + number * 86400, ONE)
    before = await index.history()
    await loaded(index)
    assert await index.history() == before


async def test_rows_of_unknown_steps_are_left_alone() -> None:
    index = MemoryMetadata()
    index.put_history(HistoryRow(7, NOON, HUB, ONE))
    assert (await loaded(index)).total(None, 60, 0, 2 * NOON) == NOTHING


async def test_an_index_that_lost_the_history_gets_it_again() -> None:
    index = MemoryMetadata()
    history = await loaded(index)
    history.add(HUB, NOON, ONE)
    before = await index.history()
    index.lose()
    assert await index.history() == before


class Unreadable(MemoryMetadata):
    """An index with a history that cannot be read."""

    async def history(self) -> list[HistoryRow]:
        """Fail."""
        raise MetadataError("the table is torn")


async def test_a_history_that_cannot_be_read_begins_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    history = await loaded(Unreadable())
    assert "the history cannot be read, and begins anew: the table is torn" in caplog.text
    history.add(HUB, NOON, ONE)
    assert history.total(None, 60, NOON, NOON + 60) == ONE
