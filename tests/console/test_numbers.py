"""Numbers for people: none says more, or less, than is known."""

from __future__ import annotations

import time

import pytest

from mirror.console.render import numbers
from mirror.console.render.numbers import NONE


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, NONE),
        (0, 9, "0 %"),
        (9, 9, "100 %"),
        (99_999, 100_000, "99.9 %"),
        (1, 100_000, "0.1 %"),
        (1, 2, "50 %"),
        (1, 3, "33.3 %"),
    ],
)
def test_only_all_is_100_percent_and_only_nothing_is_0(part: int, whole: int, text: str) -> None:
    assert numbers.share(part, whole) == text


def test_thousands_are_apart() -> None:
    assert numbers.count(1_234_567) == "1\u202f234\u202f567"
    assert numbers.count(12) == "12"


def test_what_is_not_known_is_a_dash() -> None:
    assert {numbers.count(None), numbers.size(None), numbers.span(None)} == {NONE}
    assert numbers.ago(0, time.time()) == NONE


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.0423, "42 ms"), (1.25, "1.2 s"), (7, "7 s"), (59, "59 s"), (3700, "1 h 2 min")],
)
def test_a_duration_has_the_unit_that_fits(seconds: float, text: str) -> None:
    assert numbers.span(seconds) == text


def test_a_time_of_another_day_has_its_date() -> None:
    now = time.mktime((2026, 11, 29, 18, 20, 4, 0, 0, -1))
    assert numbers.clock(now, now) == "18:20:04"
    assert numbers.clock(now - 86_400, now) == "2026-11-28 18:20"


def test_a_digest_is_shortened_to_what_people_compare() -> None:
    assert numbers.short("sha256:" + "ab" * 32) == "sha256:abababababab"
    assert numbers.short("odd") == "odd"
