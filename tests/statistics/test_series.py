"""A series is sorted by time, sums exactly, and stays within its bound."""

from __future__ import annotations

from mirror.statistics.series import NOTHING, Series, added
from mirror.storage.metadata.rows import Figures

ONE = NOTHING._replace(requests=1, sent=10)


def filled(*times: int, most: int = 100) -> Series:
    """A series with one request in each step."""
    series = Series(most)
    for time in times:
        series.add(time, ONE)
    return series


def test_figures_of_the_same_step_are_summed() -> None:
    assert filled(60, 60, 120).at(60) == NOTHING._replace(requests=2, sent=20)


def test_a_step_without_a_row_is_no_step() -> None:
    series = filled(60, 240)
    assert [time for time, _ in series.part(0, 600).by(60)] == [60, 240]
    assert series.at(120) == NOTHING


def test_longer_steps_are_the_sums_of_shorter_ones() -> None:
    part = filled(60, 540, 600, 1800).part(0, 3600)
    assert [(time, sums.requests) for time, sums in part.by(600)] == [(0, 2), (600, 1), (1800, 1)]
    assert part.total().requests == 4


def test_a_part_has_the_steps_from_its_begin_to_before_its_end() -> None:
    assert filled(0, 60, 120, 180).part(60, 180).total().requests == 2


def test_the_oldest_step_leaves_a_full_series() -> None:
    series = filled(60, 120, most=2)
    assert series.add(180, ONE) == 60
    assert series.times() == [120, 180]


def test_a_step_of_the_future_leaves_a_full_series_first() -> None:
    series = filled(60, 10**9, most=2)
    assert series.add(120, ONE) == 10**9
    assert series.times() == [60, 120]


def test_a_clock_that_is_behind_costs_a_full_series_no_step() -> None:
    series = filled(10**9, 10**9 + 60, most=2)
    for minute in range(0, 600, 60):
        assert series.add(minute, ONE) == minute
    assert series.times() == [10**9, 10**9 + 60]


def test_a_series_full_of_the_future_takes_steps_again_soon() -> None:
    series = filled(*range(10**9, 10**9 + 6000, 60), most=100)
    for minute in range(0, 6000, 60):
        series.add(minute, ONE)
    assert len(series) == 100
    assert series.times()[:40] == list(range(3600, 6000, 60))


def test_sums_beyond_what_a_database_holds_stop_there() -> None:
    most = 2**63 - 1
    huge = Figures(*[most] * len(NOTHING))
    series = Series(9)
    series.add(60, huge)
    series.add(120, added(huge, ONE))
    series.add(120, ONE)
    assert series.part(0, 600).total() == huge
