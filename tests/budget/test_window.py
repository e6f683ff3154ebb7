"""A budget window's arithmetic: the pulls that are left, their return, and the forecast."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.budget.window import PROBE_AFTER, Window
from mirror.oci.names import HUB_WINDOW
from mirror.upstream.telemetry import PullLimit

HOUR = 3600.0


def said(remaining: int, limit: int = 100, source: str = "10.0.0.1") -> PullLimit:
    """A limit as upstream reports it."""
    return PullLimit(limit, remaining, HUB_WINDOW, source)


def spent(*times: float, limit: int | None = 100) -> Window:
    """A window with pulls that were counted at these times."""
    window = Window(limit=limit)
    for at in times:
        window.count(at)
    return window


def test_without_a_limit_nothing_runs_out() -> None:
    window = spent(0, 1, 2, limit=None)
    assert window.left(3) is None
    assert window.exhausted_in(3) == math.inf
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
    assert window.all_back_in(HUB_WINDOW) == 100


def test_upstreams_report_beats_the_ledger_and_later_pulls_are_deducted() -> None:
    window = spent(0, 10)
    window.observe(said(40), sent=20, now=20)
    assert window.left(20) == 40
    window.count(30)
    assert window.left(30) == 39


def test_what_comes_back_since_upstreams_word_is_added_to_it() -> None:
    window = spent(0, 10)
    window.observe(said(40), sent=20, now=20)
    assert window.left(HUB_WINDOW + 5) == 41
    assert window.left(HUB_WINDOW + 10) == 42


def test_a_word_as_old_as_the_window_is_forgotten() -> None:
    window = spent()
    window.observe(said(0), sent=0, now=0)
    window.count(HUB_WINDOW - 10)
    assert window.left(HUB_WINDOW) == 99


def test_pulls_of_others_are_the_difference() -> None:
    window = spent(0, 10)
    window.observe(said(40), sent=20, now=20)
    assert window.others(20) == 58
    assert window.all_back_in(20) == HUB_WINDOW
    assert window.others(20 + HUB_WINDOW) == 0


def test_an_upstream_that_counts_fewer_than_we_says_so_too() -> None:
    window = spent(0, 10)
    window.observe(said(99), sent=20, now=20)
    assert (window.others(20), window.left(20)) == (-1, 99)


def test_answers_that_overtake_each_other_do_not_raise_the_remainder() -> None:
    window = spent()
    window.running = 2
    for sent, remaining in ((1.0, 97), (0.0, 98)):  # the second was sent first
        window.count(2, sent, reported=True)
        window.observe(said(remaining), sent, now=2)
    window.running = 0
    assert window.left(2) == 97
    window.observe(said(98), sent=3, now=4)  # sent since: this is news
    assert window.left(4) == 98


def test_pulls_since_the_lowest_report_raise_the_remainder() -> None:
    """Any number of answers may overlap: each is older only than questions sent after it came."""
    window = spent()
    window.observe(said(10), sent=0.0, now=0.2)
    for number in range(1, 10):  # each is sent before the last answer arrives
        sent = number / 10
        window.observe(said(100), sent, sent + 0.2)
    assert window.left(1.1) == 100


def test_a_pull_without_a_report_is_deducted_from_earlier_requests() -> None:
    window = spent()
    window.count(2, sent=1)
    window.observe(said(100), sent=0, now=3)
    assert window.left(3) == 99
    window.observe(said(99), sent=4, now=5)
    assert window.left(5) == 99


def test_what_may_have_come_back_before_upstreams_word_is_not_added_to_it() -> None:
    """Upstream counts a pull between question and answer, and may give it back as early."""
    window = Window()
    window.count(10.0, sent=5.0)
    window.observe(said(100), sent=HUB_WINDOW + 7.0, now=HUB_WINDOW + 8.0)
    assert window.left(HUB_WINDOW + 11.0) == 100
    for sent, left in ((5.0, 40), (8.0, 41)):
        window = Window()
        window.count(10.0, sent=sent)
        window.observe(said(40), sent=HUB_WINDOW + 7.0, now=HUB_WINDOW + 8.0)
        assert window.left(HUB_WINDOW + 9.0) == 40
        assert window.left(HUB_WINDOW + 11.0) == left


def test_others_are_not_told_from_what_runs() -> None:
    window = spent()
    window.observe(said(90), sent=1, now=1)
    window.running = 5
    window.observe(said(85), sent=2, now=2)
    assert (window.others(2), window.reported and window.reported.others) == (10, 10)


def test_a_limit_that_changes_is_the_new_one() -> None:
    window = spent(0)
    window.observe(said(99), sent=1, now=1)
    window.observe(PullLimit(200, 150, 600, "account"), sent=1, now=2)
    assert (window.limit, window.left(2), window.length) == (200, 150, 600)


def test_a_limit_that_disappears_leaves_the_configured_one() -> None:
    for configured, left in ((None, None), (10, 9)):
        window = spent(0, limit=configured)
        window.observe(said(3), sent=1, now=1)
        window.drop_limit()
        assert window.left(2) == left


def test_nothing_left_is_doubted_after_a_while_where_others_spent_it() -> None:
    window = spent(0)
    window.observe(said(0), sent=1, now=1)
    assert window.left(PROBE_AFTER) == 0
    assert window.left(1 + PROBE_AFTER) == 1  # one pull may find out
    window.running = 1
    assert window.left(1 + PROBE_AFTER) == 0  # while it runs, no other may
    assert window.back_in(1) == PROBE_AFTER


def test_nothing_left_that_we_spent_ourselves_is_not_doubted() -> None:
    window = spent(*[0.0] * 100)
    window.observe(said(0), sent=1, now=1)
    assert window.left(HUB_WINDOW - 1) == 0
    assert window.back_in(1) == HUB_WINDOW - 1
    assert window.left(HUB_WINDOW) == 100


def test_more_than_is_left_comes_back_when_all_that_it_takes_has_come_back() -> None:
    """A lowered limit leaves a debt, which upstream does not report."""
    for configured in (True, False):
        window = spent(*[float(at) for at in range(80)], limit=50 if configured else None)
        if not configured:
            window.observe(said(0, 50), sent=80, now=80)
        assert window.back_in(80) == HUB_WINDOW - 80 + 30
        assert window.left(HUB_WINDOW + 29) == 0
        assert window.left(HUB_WINDOW + 30) == 1


def test_others_are_waited_for_in_vain_where_something_is_left() -> None:
    """For more pulls than are left, known returns count: no pull finds out about others."""
    window = spent(100)
    window.observe(said(10), sent=100, now=100)
    for now in (110, 100 + PROBE_AFTER + 1, 9000):
        assert window.back_in(now) == 100 + HUB_WINDOW - now


def test_the_rate_is_that_of_the_last_hour() -> None:
    window = spent(0, HOUR, HOUR + 1)
    assert window.rate(HOUR + 1) * HOUR == pytest.approx(2)
    assert window.rate(3 * HOUR) == 0


def test_the_rate_of_a_short_window_is_that_of_a_part_of_it() -> None:
    window = Window(600, 100)
    for at in range(0, 7200, 10):
        window.count(float(at))
    before = window.rate(7195)
    assert before == pytest.approx(0.1)
    assert window.used(7195) == 60
    assert window.rate(7195) == before  # a look in between changes nothing


def test_the_rate_includes_pulls_of_others() -> None:
    window = spent(0)
    window.observe(said(99), sent=1, now=1)
    window.observe(said(89), sent=600, now=600)
    assert window.rate(600) * HOUR == pytest.approx(11)


def test_the_forecast_says_when_it_ends_at_this_rate() -> None:
    window = spent(*[float(at) for at in range(0, 3600, 60)])  # one a minute
    now = 3600.0
    assert window.left(now) == 40
    assert window.exhausted_in(now) == pytest.approx(40 * 3600 / 59, rel=0.02)


def test_the_forecast_lasts_where_a_window_covers_the_rate() -> None:
    window = spent(*[float(at) for at in range(0, 3600, 600)])  # six an hour, 36 a window
    assert window.exhausted_in(3600) == math.inf


def test_the_forecast_of_a_short_window_ends_within_it() -> None:
    window = Window(600, 100)
    for at in range(60):
        window.count(at * 5.0)
    assert window.left(299) == 40
    assert window.exhausted_in(299) == pytest.approx(200)  # before the first pull returns


def test_the_forecast_counts_on_others_at_the_latest() -> None:
    window = spent()
    window.observe(said(10), sent=0, now=0)
    for _ in range(6):
        window.count(HUB_WINDOW - 600.0)
    now = HUB_WINDOW - 300.0  # four left, six an hour, others' ninety return in five minutes
    assert window.left(now) == 4
    assert window.exhausted_in(now) == math.inf


def test_the_forecast_counts_on_what_comes_back() -> None:
    window = spent(*[0.0] * 90, *[HUB_WINDOW - 600.0] * 6)
    now = HUB_WINDOW - 300.0  # four left, six an hour, ninety return in five minutes
    assert window.left(now) == 4
    assert window.exhausted_in(now) == math.inf


# Hub as documented, and the invariants under any steps


class Model:
    """A limit of `limit` pulls in any `HUB_WINDOW` seconds, as upstream counts it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ours: list[float] = []
        self.others: list[float] = []

    def remaining(self, now: float) -> int:
        """The number of pulls that are granted now."""
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
    """Alone behind an address, every pull that the window grants is granted by upstream.

    After any steps, the pulls that are left are between none and the limit, and the used ones are
    those counted in the window.
    """
    model, now = Model(6), 0
    window = Window(limit=None if headers else 6)
    if headers:
        window.observe(said(6, 6), now, now)
    for what, value in steps:
        now += 1
        if what == "time":
            now += value
        elif what == "pull":
            _pull(window, model, value, now, headers=headers)
        elif what == "head" and headers:
            window.observe(said(max(0, model.remaining(now)), model.limit), now, now)
        elif what == "others" and headers:
            model.others += [now] * min(value, max(0, model.remaining(now)))
        elif what == "limit" and headers:
            model.limit = value
            window.observe(said(max(0, model.remaining(now)), model.limit), now, now)
        elif what == "restart":
            window = _again(window, now, None if headers else 6)
        left, limit = window.left(now), window.limit
        assert limit is not None
        assert left is not None
        assert 0 <= left <= limit
        assert window.used(now) == sum(at > now - HUB_WINDOW for at in model.ours)
        assert 0 <= window.back_in(now) <= HUB_WINDOW
        assert 0 <= window.all_back_in(now) <= HUB_WINDOW
        assert window.exhausted_in(now) >= 0


def _pull(window: Window, model: Model, wanted: int, now: float, *, headers: bool) -> None:
    """Start all granted pulls at once; their answers arrive in the order of the questions."""
    while window.running < wanted and window.left(now):
        window.running += 1
    for _ in range(window.running):
        counted = model.pull(now)
        assert counted or model.others, "a pull was granted that upstream refuses"
        if counted:
            window.count(now)
        if headers:
            window.observe(said(max(0, model.remaining(now)), model.limit), now, now)
        window.running -= 1


def _again(window: Window, now: float, limit: int | None) -> Window:
    """A window that is restored from the old one, as after a restart."""
    word, again, pulls = window.reported, Window(limit=limit), window.pulls(now)
    if word is None:
        again.restore(pulls, None, 0.0, 0)
    else:
        known = PullLimit(word.limit, word.remaining, None, word.source)
        again.restore(pulls, known, word.at, max(0, len(pulls) - window.unreported))
    return again


# Overlapping answers


class Wire:
    """Questions on their way to a model and back, with a delay each way."""

    def __init__(self, model: Model, window: Window) -> None:
        self.model = model
        self.window = window
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def head(self, there: float, back: float) -> None:
        """Ask how many pulls are left."""
        sent = self.now
        self._at(sent + there, lambda: self._answer(sent, back, counted=False))

    def pull(self, there: float, back: float, *, said: bool) -> None:
        """Pull if a pull is granted; its answer reports the limit or does not."""
        if self.window.left(self.now) and not self._doubted():
            sent = self.now
            self.window.running += 1
            self._at(sent + there, lambda: self._counted(sent, back, said=said))

    def _doubted(self) -> bool:
        """Whether a pull is granted to find out about others; without others it would be refused.

        A pull that returned while an answer was on its way may be the mirror's or another's.
        """
        word = self.window.reported
        assert word is not None
        return self.window.others(self.now) > 0 and self.now >= word.at + PROBE_AFTER

    def pass_on(self, seconds: float) -> None:
        """Let time pass, and run the events that are due."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until

    def _at(self, at: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), event))

    def _counted(self, sent: float, back: float, *, said: bool) -> None:
        assert self.model.pull(self.now), "a pull was granted that upstream refuses"
        self._answer(sent, back, counted=True, said=said)

    def _answer(self, sent: float, back: float, *, counted: bool, said: bool = True) -> None:
        left = PullLimit(self.model.limit, self.model.remaining(self.now), HUB_WINDOW, "me")

        def arrive() -> None:
            if counted:
                self.window.count(self.now, sent, reported=said)
            if said:
                self.window.observe(left, sent, self.now)
            self.window.running -= counted

        self._at(self.now + back, arrive)


LATENCY = st.sampled_from([0.0, 0.01, 0.1, 0.25, 2.0])
ASKED = st.lists(
    st.tuples(
        st.sampled_from(["head", "head", "pull", "pull", "silent", "time"]),
        LATENCY,
        LATENCY,
        st.sampled_from([0.0, 0.0, 0.05, 0.2, 1.0, 100.0, HUB_WINDOW - 0.3, HUB_WINDOW / 2]),
    ),
    max_size=80,
)


@given(ASKED, st.sampled_from([0.005, 0.1, 1.0, 30.0]))
def test_overlapping_answers_grant_no_missing_pull_and_converge(
    asked: list[tuple[str, float, float, float]], interval: float
) -> None:
    """No pull is granted that upstream refuses; and the window's count converges to upstream's.

    It takes a second after the slowest answer if upstream is asked that often, and two questions if
    it is asked more rarely.
    """
    window = Window()
    wire = Wire(Model(6), window)
    wire.head(0, 0)
    wire.pass_on(0)
    for what, there, back, pause in asked:
        if what == "head":
            wire.head(there, back)
        elif what != "time":
            wire.pull(there, back, said=what == "pull")
        wire.pass_on(pause)
        left = window.left(wire.now)
        assert left is not None
        assert 0 <= left <= 6
    until = wire.now + 5 + 2 * interval
    while window.left(wire.now) != wire.model.remaining(wire.now) and wire.now < until:
        wire.head(0.1, 0.15)
        wire.pass_on(interval)
    assert window.left(wire.now) == wire.model.remaining(wire.now)


def test_a_flood_of_answers_shows_what_came_back_at_once() -> None:
    for rate in (20, 60, 150):
        chance, window = random.Random(rate), Window()
        wire = Wire(Model(100), window)
        for _ in range(90):
            wire.model.pull(0)
            window.count(0)
        wire.head(0, 0)
        wire.pass_on(HUB_WINDOW - 5.0)
        while wire.now < HUB_WINDOW + 1:
            wire.head(chance.uniform(0.05, 0.15), chance.uniform(0.05, 0.15))
            wire.pass_on(chance.expovariate(rate))
        assert window.left(wire.now) == 100
