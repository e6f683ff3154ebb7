"""The times of cron's fields, by the local clock, through its changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.util.cron import parse_cron

ZONE = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the local clock to that of Berlin."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def times(text: str, after: str, number: int = 3) -> list[str]:
    """Return the next times of a schedule, with the offset of each."""
    at: float | None = datetime.fromisoformat(after).replace(tzinfo=ZONE).timestamp()
    found = []
    for _ in range(number):
        assert at is not None
        at = parse_cron(text).following(at)
        found.append(f"{datetime.fromtimestamp(at or 0, ZONE):%a %m-%d %H:%M %z}")
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "0 5 * * 1-5",
            ["Mon 11-30 05:00", "Tue 12-01 05:00", "Wed 12-02 05:00"],
        ),
        (
            "*/20 * * * *",
            ["Sun 11-29 17:20", "Sun 11-29 17:40", "Sun 11-29 18:00"],
        ),
        (
            "5/30 8 * * *",
            ["Mon 11-30 08:05", "Mon 11-30 08:35", "Tue 12-01 08:05"],
        ),
        (
            "0 0 1,15 * *",
            ["Tue 12-01 00:00", "Tue 12-15 00:00", "Fri 01-01 00:00"],
        ),
        (
            "0 6 * jan SAT",
            ["Sat 01-02 06:00", "Sat 01-09 06:00", "Sat 01-16 06:00"],
        ),
        ("0 6 * * 7", ["Sun 12-06 06:00", "Sun 12-13 06:00", "Sun 12-20 06:00"]),
        ("0 6 1 * 1", ["Mon 11-30 06:00", "Tue 12-01 06:00", "Mon 12-07 06:00"]),
        (
            "0 6 */2 * 1",
            ["Mon 12-07 06:00", "Mon 12-21 06:00", "Mon 01-11 06:00"],
        ),
    ],
)
def test_the_fields_mean_what_they_mean_in_cron(text: str, expected: list[str]) -> None:
    found = times(text, "2026-11-29 17:05:30")
    assert [each.removesuffix(" +0100") for each in found] == expected


def test_the_29th_of_february_comes_in_leap_years() -> None:
    at = parse_cron("0 0 29 2 *").following(datetime(2096, 3, 1, tzinfo=ZONE).timestamp())
    assert at is not None
    assert datetime.fromtimestamp(at, ZONE).year == 2104


def test_a_time_that_is_left_out_comes_later_by_the_change_and_once() -> None:
    assert times("30 2 * * *", "2026-03-28 12:00") == [
        "Sun 03-29 03:30 +0200",
        "Mon 03-30 02:30 +0200",
        "Tue 03-31 02:30 +0200",
    ]


def test_a_time_that_comes_twice_counts_once() -> None:
    assert times("30 2 * * *", "2026-10-24 12:00") == [
        "Sun 10-25 02:30 +0200",
        "Mon 10-26 02:30 +0100",
        "Tue 10-27 02:30 +0100",
    ]


def test_a_schedule_for_every_hour_goes_on_through_both_changes() -> None:
    assert times("0 * * * *", "2026-10-25 01:30") == [
        "Sun 10-25 02:00 +0200",
        "Sun 10-25 02:00 +0100",
        "Sun 10-25 03:00 +0100",
    ]
    assert times("0 * * * *", "2026-03-29 01:30", 2) == [
        "Sun 03-29 03:00 +0200",
        "Sun 03-29 04:00 +0200",
    ]


def test_the_next_minute_is_found_soon() -> None:
    cron = parse_cron("* * * * *")
    evening = datetime(2026, 11, 29, 23, 30, tzinfo=ZONE).timestamp()
    begun = time.process_time()
    assert [cron.following(evening + number) for number in range(20)] == [evening + 60] * 20
    assert time.process_time() - begun < 20 * 0.004


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected five fields"),
        ("0 5 * *", "expected five fields"),
        ("60 5 * * *", "minute '60': expected numbers 0-59"),
        ("0 5-2 * * *", "hour '5-2': expected numbers 0-23"),
        ("0 5 0 * *", "day of the month '0': expected numbers 1-31"),
        ("0 5 * foo *", "month 'foo': expected numbers 1-12 or jan-dec"),
        ("0 5 * * 8", "weekday '8': expected numbers 0-7 or sun-sat"),
        ("*/0 5 * * *", "minute '*/0'"),
        ("1,,2 5 * * *", "minute '1,,2'"),
        ("*-5 5 * * *", "minute '*-5'"),
        ("\u0661 5 * * *", "minute"),
        ("0 0 31 2 *", "expected a day that some month has"),
    ],
)
def test_an_error_names_the_field_and_what_is_allowed(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        parse_cron(text)
    assert expected in str(error.value)


@given(
    st.sampled_from(["*", "*/7", "0", "59", "1-5,30"]),
    st.sampled_from(["*", "2", "1-3", "*/5"]),
    st.integers(0, 366 * 24 * 3600),
)
def test_times_are_later_and_match_their_fields(minute: str, hour: str, seconds: int) -> None:
    cron = parse_cron(f"{minute} {hour} * * *")
    after = datetime(2026, 1, 1, tzinfo=ZONE).timestamp() + seconds
    at = cron.following(after)
    assert at is not None
    assert after < at <= after + timedelta(days=2).total_seconds()
    local = datetime.fromtimestamp(at, ZONE)
    assert local.minute in cron.minutes
    assert local.hour in cron.hours or (local.hour == 3 and local.month == 3)
