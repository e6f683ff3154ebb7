"""A budget window's arithmetic: what is left, what comes back when, how long it lasts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cache.window import HUB_WINDOW, PROBE, Window
from mirror.upstream.answers import PullLimit

HOUR = 3600.0


def said(remaining: int, limit: int = 100, source: str = "10.0.0.1") -> PullLimit:
    """What upstream says."""
    return PullLimit(limit, remaining, HUB_WINDOW, source)


def spent(*times: float, limit: int | None = 100) -> Window:
    """A window in which pulls were counted at these times."""
    window = Window(limit=limit)
    for at in times:
        window.count(at)
    return window


def test_without_a_limit_nothing_runs_out() -> None:
    window = spent(0, 1, 2, limit=None)
    assert window.left(3) is None
    assert window.lasts(3) == math.inf
    assert window.used(3) == 3


def test_a_configured_limit_is_counted_by_our_own_ledger() -> None:
    window = spent(0, 10, limit=3)
    assert window.left(10) == 1
    window.running = 1
    assert window.left(10) == 0


def test_a_pull_comes_back_a_window_after_it_was_counted() -> None:
    window = spent(0, 100, limit=2)
    assert list(window.returns(100)) == [HUB_WINDOW - 100, HUB_WINDOW]
    assert window.back_in(100) == HUB_WINDOW - 100
    assert window.back_in(100, 2) == HUB_WINDOW
    assert window.left(HUB_WINDOW - 1) == 0
    assert window.left(HUB_WINDOW) == 1
    assert window.whole_in(HUB_WINDOW) == 100


def test_upstreams_word_beats_our_ledger_and_our_pulls_since_are_taken_from_it() -> None:
    window = spent(0, 10)
    window.hear(said(40), sent=20, now=20)
    assert window.left(20) == 40
    window.count(30)
    assert window.left(30) == 39


def test_what_comes_back_since_upstreams_word_is_added_to_it() -> None:
    window = spent(0, 10)
    window.hear(said(40), sent=20, now=20)
    assert window.left(HUB_WINDOW + 5) == 41
    assert window.left(HUB_WINDOW + 10) == 42


def test_a_word_as_old_as_the_window_is_forgotten() -> None:
    window = spent()
    window.hear(said(0), sent=0, now=0)
    window.count(HUB_WINDOW - 10)
    assert window.left(HUB_WINDOW) == 99


def test_what_others_spent_is_the_difference() -> None:
    window = spent(0, 10)
    window.hear(said(40), sent=20, now=20)
    assert window.others(20) == 58
    assert window.whole_in(20) == HUB_WINDOW
    assert window.others(20 + HUB_WINDOW) == 0


def test_an_upstream_that_counts_fewer_than_we_says_so_too() -> None:
    window = spent(0, 10)
    window.hear(said(99), sent=20, now=20)
    assert (window.others(20), window.left(20)) == (-1, 99)


def test_answers_that_overtake_each_other_do_not_raise_what_is_left() -> None:
    window = spent()
    window.running = 2
    for sent, remaining in ((1.0, 97), (0.0, 98)):  # the second was asked for first
        window.count(2)
        window.hear(said(remaining), sent, now=2)
    window.running = 0
    assert window.left(2) == 97
    window.hear(said(98), sent=3, now=4)  # asked for since: this is news
    assert window.left(4) == 98


def test_a_limit_that_changes_is_the_new_one() -> None:
    window = spent(0)
    window.hear(said(99), sent=1, now=1)
    window.hear(PullLimit(200, 150, 600, "account"), sent=1, now=2)
    assert (window.limit, window.left(2), window.length) == (200, 150, 600)


def test_a_limit_that_disappears_leaves_what_is_configured() -> None:
    for configured, left in ((None, None), (10, 9)):
        window = spent(0, limit=configured)
        window.hear(said(3), sent=1, now=1)
        window.lift()
        assert window.left(2) == left


def test_nothing_left_is_doubted_after_a_while_where_others_spent_it() -> None:
    window = spent(0)
    window.hear(said(0), sent=1, now=1)
    assert window.left(PROBE) == 0
    assert window.left(1 + PROBE) == 1  # one may find out
    window.running = 1
    assert window.left(1 + PROBE) == 0  # while it does, nobody else
    assert window.back_in(1) == PROBE


def test_nothing_left_that_we_spent_ourselves_is_not_doubted() -> None:
    window = spent(*[0.0] * 100)
    window.hear(said(0), sent=1, now=1)
    assert window.left(HUB_WINDOW - 1) == 0
    assert window.back_in(1) == HUB_WINDOW - 1
    assert window.left(HUB_WINDOW) == 100


def test_the_rate_is_that_of_the_last_hour() -> None:
    window = spent(0, HOUR, HOUR + 1)
    assert window.rate(HOUR + 1) * HOUR == pytest.approx(2)
    assert window.rate(3 * HOUR) == 0


def test_the_rate_sees_what_others_spend() -> None:
    window = spent(0)
    window.hear(said(99), sent=1, now=1)
    window.hear(said(89), sent=600, now=600)
    assert window.rate(600) * HOUR == pytest.approx(11)


def test_the_forecast_says_when_it_ends_at_this_rate() -> None:
    window = spent(*[float(at) for at in range(0, 3600, 60)])  # one a minute
    now = 3600.0
    assert window.left(now) == 40
    assert window.lasts(now) == pytest.approx(40 * 3600 / 59, rel=0.02)


def test_the_forecast_lasts_where_a_window_covers_the_rate() -> None:
    window = spent(*[float(at) for at in range(0, 3600, 600)])  # six an hour, 36 a window
    assert window.lasts(3600) == math.inf


def test_the_forecast_counts_on_what_comes_back() -> None:
    window = spent(*[0.0] * 90, *[HUB_WINDOW - 600.0] * 6)
    now = HUB_WINDOW - 300.0  # four left, six an hour, ninety back in five minutes
    assert window.left(now) == 4
    assert window.lasts(now) == math.inf


# Hub as it is documented, and what must hold whatever happens before it


class Model:
    """A limit of `limit` pulls in any `HUB_WINDOW` seconds, as the other side counts it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ours: list[float] = []
        self.others: list[float] = []

    def remaining(self, now: float) -> int:
        """How many pulls it grants."""
        since = now - HUB_WINDOW
        return self.limit - sum(at > since for at in self.ours + self.others)

    def pull(self, now: float) -> bool:
        """Grant a pull, or refuse it."""
        if self.remaining(now) <= 0:
            return False
        self.ours.append(now)
        return True


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pull"), st.integers(1, 8)),
        st.tuples(st.just("time"), st.integers(1, HUB_WINDOW // 2)),
        st.tuples(st.just("head"), st.just(0)),
        st.tuples(st.just("others"), st.integers(1, 5)),
        st.tuples(st.just("limit"), st.integers(3, 12)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.booleans())
def test_no_window_ever_holds_more_of_our_pulls_than_the_limit(
    steps: list[tuple[str, int]], headers: bool
) -> None:
    """Alone behind an address, no pull that the window grants is refused: not one knock too many.

    Whatever happens, what is left lies between nothing and the limit, and what is used is what
    was counted in the window.
    """
    model, now = Model(6), 0
    window = Window(limit=None if headers else 6)
    if headers:
        window.hear(said(6, 6), now, now)
    for what, value in steps:
        now += 1
        if what == "time":
            now += value
        elif what == "pull":
            _pull(window, model, value, now, headers=headers)
        elif what == "head" and headers:
            window.hear(said(max(0, model.remaining(now)), model.limit), now, now)
        elif what == "others" and headers:
            model.others += [now] * min(value, max(0, model.remaining(now)))
        elif what == "limit" and headers:
            model.limit = value
            window.hear(said(max(0, model.remaining(now)), model.limit), now, now)
        elif what == "restart":
            window = _again(window, now, None if headers else 6)
        left, limit = window.left(now), window.limit
        assert limit is not None
        assert left is not None
        assert 0 <= left <= limit
        assert window.used(now) == sum(at > now - HUB_WINDOW for at in model.ours)
        assert 0 <= window.back_in(now) <= HUB_WINDOW
        assert 0 <= window.whole_in(now) <= HUB_WINDOW
        assert window.lasts(now) >= 0


def _pull(window: Window, model: Model, wanted: int, now: float, *, headers: bool) -> None:
    """Start as many pulls as are granted at once; their answers come in the order of asking."""
    while window.running < wanted and window.left(now):
        window.running += 1
    for _ in range(window.running):
        counted = model.pull(now)
        assert counted or model.others, "a pull was granted that upstream refuses"
        if counted:
            window.count(now)
        if headers:
            window.hear(said(max(0, model.remaining(now)), model.limit), now, now)
        window.running -= 1


def _again(window: Window, now: float, limit: int | None) -> Window:
    """A window that was told all that the old one knew."""
    word, again = window.word, Window(limit=limit)
    pulls = window.pulls(now)
    for at in pulls:
        if word is not None and at <= word.at:
            again.count(at)
    if word is not None:
        again.hear(PullLimit(word.limit, word.remaining, None, word.source), word.at, word.at)
    for at in pulls:
        if word is None or at > word.at:
            again.count(at)
    return again
