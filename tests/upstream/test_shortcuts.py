"""Shortcuts: a refused shortcut is left out for a while, and not held against its host for ever."""

from __future__ import annotations

import pytest
from yarl import URL

from mirror.upstream.shortcuts import Shortcuts
from tests.support.clock import Clock

HOST, OTHER = URL("https://registry.example/v2/"), URL("https://cdn.example/x?y")


@pytest.fixture
def clock() -> Clock:
    """A clock that the test sets."""
    return Clock()


@pytest.fixture
def shortcuts(clock: Clock) -> Shortcuts:
    """Shortcuts without any result yet."""
    return Shortcuts(clock)


def test_one_refusal_is_no_rule(shortcuts: Shortcuts) -> None:
    shortcuts.failed(HOST, "head blob")
    assert shortcuts.worth(HOST, "head blob")


def test_a_shortcut_refused_twice_is_left_out_for_a_minute_and_then_tried(
    shortcuts: Shortcuts, clock: Clock
) -> None:
    for _ in range(2):
        shortcuts.failed(HOST, "range")
    assert not shortcuts.worth(HOST, "range")
    assert not shortcuts.worth(HOST / "another/path", "range")
    clock.now += 60
    assert shortcuts.worth(HOST, "range")


def test_each_rest_is_twice_as_long_up_to_ten_minutes(shortcuts: Shortcuts, clock: Clock) -> None:
    shortcuts.failed(HOST, "range")
    for rest in (60, 120, 240, 480, 600, 600):
        shortcuts.failed(HOST, "range")
        clock.now += rest - 1
        assert not shortcuts.worth(HOST, "range")
        clock.now += 1
        assert shortcuts.worth(HOST, "range")


def test_refusals_that_come_while_it_rests_make_no_rest_longer(
    shortcuts: Shortcuts, clock: Clock
) -> None:
    for _ in range(50):
        shortcuts.failed(HOST, "range")
    clock.now += 60
    assert shortcuts.worth(HOST, "range")


def test_a_success_clears_a_hosts_record(shortcuts: Shortcuts) -> None:
    shortcuts.failed(HOST, "head manifest")
    shortcuts.worked(HOST, "head manifest")
    shortcuts.failed(HOST, "head manifest")
    assert shortcuts.worth(HOST, "head manifest")


def test_hosts_and_shortcuts_are_told_apart(shortcuts: Shortcuts) -> None:
    for _ in range(2):
        shortcuts.failed(HOST, "range")
    assert shortcuts.worth(OTHER, "range")
    assert shortcuts.worth(HOST, "head blob")
