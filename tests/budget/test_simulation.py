"""A fleet's days against a model of Docker Hub's limit: the bar for the budget, and the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mirror.oci.errors import PullLimitSpent
from mirror.settings import load
from tests.simulation import report
from tests.simulation.bounds import unavoidable
from tests.simulation.hub import Clock, Hub, Terms, make_document
from tests.simulation.play import Score, play_mirror, play_others
from tests.simulation.scenarios import SCENARIOS, Scenario
from tests.simulation.trace import (
    DAY,
    Event,
    Fleet,
    Job,
    Move,
    Name,
    Outage,
    Pull,
    Trace,
    plan,
)

SEED = 1  # upstream is away at times, also in strict scenarios
DARK = 3  # with pulls of unknown content in an outage
HOUR = 3600.0
NAME = Name("team/image-0", "v0")
OTHER = Name("team/image-1", "v0")
ONE = Fleet(runners=1, repositories=2, tags=2, moves=0)


def by_hand(*events: Event, fleet: Fleet = ONE) -> Trace:
    """A trace of these events."""
    return Trace(fleet, 1, events)


def job(at: float, *names: Name, runners: int = 1) -> Job:
    """A matrix that pulls these tags."""
    return Job(at, tuple(Pull(f"10.0.0.{n}", name) for n in range(runners) for name in names))


# The bar


@pytest.mark.parametrize(("seed", "days", "least"), [(SEED, 4, 0), (DARK, 3, 44)])
async def test_a_fleets_days_cost_the_floor_and_no_pull_fails(
    tmp_path: Path, seed: int, days: int, least: int
) -> None:
    """40 runners, 12 images, 200 jobs a day, 60 tags of which 5 move a day; 100 pulls per 6 h.

    Upstream is away twice: only pulls of content that was never stored fail.
    """
    trace = plan(Fleet(), days, seed)
    assert sum(isinstance(event, Outage) for event in trace.events) == 2 * 2
    score = await play_mirror(trace, Terms(), tmp_path, load())
    assert score.pulls > 5000 * days
    assert score.failed.total() == unavoidable(trace, Terms()) == least
    assert score.counted == len(score.wanted) >= 60 + (days - 1) * 5
    for other in await play_others(trace, Terms()):
        assert other.failed.total() > 500
        assert other.counted > 2 * score.counted


@pytest.mark.parametrize("scenario", SCENARIOS[1:], ids=lambda scenario: scenario.name)
async def test_the_mirrors_promises_hold_in_every_scenario(
    tmp_path: Path, scenario: Scenario
) -> None:
    settings = load()
    trace = plan(scenario.fleet, 2, SEED)
    assert not scenario.strict or any(isinstance(event, Outage) for event in trace.events)
    score = await play_mirror(trace, scenario.terms, tmp_path, settings)
    most = settings.max_stale + settings.tag_ttl
    assert not list(report.wrong(scenario, score, unavoidable(trace, scenario.terms), most))
    assert score.pulls > 10_000


async def test_heads_ahead_spare_a_busy_fleet_its_waits_and_cost_no_pull(tmp_path: Path) -> None:
    [_, hot, *_] = SCENARIOS
    trace = plan(hot.fleet, 1, SEED)
    ahead = await play_mirror(trace, hot.terms, tmp_path / "ahead", load())
    settings = load({"tag_refresh_ahead": 0})
    unasked = await play_mirror(trace, hot.terms, tmp_path / "unasked", settings)
    assert ahead.counted == unasked.counted == len(ahead.wanted)
    assert unasked.waited > 0.5 * unasked.pulls
    assert ahead.waited < 0.05 * ahead.pulls
    assert ahead.heads < 6 * unasked.heads


async def test_a_tag_without_requests_for_hours_is_not_held_back(tmp_path: Path) -> None:
    """A tag is held back only if it was confirmed a while ago: none is stale beyond `max_stale`."""
    settings = load({"max_stale": HOUR})
    moved = (job(0, NAME, OTHER), Move(60, NAME, 1))
    soon = by_hand(*moved, job(600, NAME))
    score = await play_mirror(soon, Terms(limit=3), tmp_path / "soon", settings)
    assert score.stale == [540.0]
    late = by_hand(*moved, job(5 * HOUR, NAME))
    score = await play_mirror(late, Terms(limit=3), tmp_path / "late", settings)
    assert not score.stale
    assert score.counted == 3


async def test_a_hub_that_says_when_to_come_again_is_left_alone_until_then(tmp_path: Path) -> None:
    """Such a hub names no limit: only its refusal tells that no pull is left."""
    times = (60, 120, 3 * HOUR, 6 * HOUR - 1, 6 * HOUR + 1)
    trace = by_hand(job(0, NAME), *(job(at, OTHER) for at in times))
    terms = Terms(limit=1, named=False, retry_after=True)
    score = await play_mirror(trace, terms, tmp_path, load())
    assert (score.failed.total(), score.refused, score.counted) == (4, 1, 2)


# The trace


def test_the_same_seed_makes_the_same_trace_and_another_seed_another() -> None:
    assert plan(Fleet(), 3, 7) == plan(Fleet(), 3, 7)
    assert plan(Fleet(), 3, 7) != plan(Fleet(), 3, 8)


def test_a_day_has_the_jobs_and_the_moves_that_it_should() -> None:
    trace = plan(Fleet(), 2, SEED)
    assert 400 <= len(list(trace.jobs)) <= 480  # some jobs run again
    assert sum(isinstance(event, Move) for event in trace.events) == 10
    names = {pull.name for each in trace.jobs for pull in each.pulls}
    assert names <= set(Fleet().names)
    assert len({name.repository for name in names}) == 12
    assert len({pull.client for each in trace.jobs for pull in each.pulls}) == 40
    assert [event.at for event in trace.events] == sorted(event.at for event in trace.events)


# The hub


def hub_of(terms: Terms) -> tuple[Hub, Clock]:
    """A hub with a document for NAME."""
    clock = Clock()
    hub = Hub(terms, clock)
    hub.tag(NAME, make_document(NAME, 0, 1))
    return hub, clock


def test_a_pull_comes_back_a_window_later_or_with_the_grid() -> None:
    for fixed, back in ((False, 15 * HOUR), (True, 12 * HOUR)):
        hub, clock = hub_of(Terms(limit=1, fixed=fixed))
        clock.now = 9 * HOUR
        hub.get(NAME.repository, NAME.tag)
        clock.now = back - 1
        hub.head(NAME.repository, NAME.tag)
        with pytest.raises(PullLimitSpent):
            hub.get(NAME.repository, NAME.tag)
        clock.now = back
        hub.get(NAME.repository, NAME.tag)


async def test_others_fail_where_the_limit_is_less_than_their_pulls() -> None:
    trace = by_hand(job(0, NAME, runners=30))
    direct, proxy = await play_others(trace, Terms(limit=10))
    assert (direct.failed.total(), direct.counted) == (20, 10)
    assert (proxy.failed.total(), proxy.counted) == (20, 10)
    direct, proxy = await play_others(by_hand(job(0, NAME), job(9, NAME)), Terms(limit=10))
    assert (direct.counted, proxy.counted) == (2, 1)


# Unavoidable failures, and broken promises


def test_an_oracle_fails_only_where_nothing_could_be_had() -> None:
    crowd = by_hand(job(0, NAME, runners=9), job(60, OTHER, runners=4))
    assert unavoidable(crowd, Terms(limit=2)) == 0
    assert unavoidable(crowd, Terms(limit=1)) == 4
    two = replace(crowd, fleet=replace(ONE, platforms=2))
    assert unavoidable(two, Terms(limit=3)) == 4
    dark = by_hand(job(0, NAME), Outage(1, down=True), job(2, NAME, OTHER))
    assert unavoidable(dark, Terms()) == 1


def test_what_does_not_hold_is_said() -> None:
    scenario = Scenario("some", ONE)
    good = Score("mirror", pulls=3, counted=1, served={"a"}, wanted={"a"})
    assert not list(report.wrong(scenario, good, 0, 3660))
    assert list(report.wrong(scenario, replace(good, counted=2), 0, 3660))
    assert list(report.wrong(scenario, replace(good, wanted={"b"}), 0, 3660))
    assert list(report.wrong(scenario, replace(good, worst_in_plenty=DAY), 0, 3660))
    assert list(report.wrong(scenario, replace(good, refused=1), 0, 3660))
    failing = replace(good)
    failing.failed["PullLimitSpent"] += 1
    assert list(report.wrong(scenario, failing, 0, 3660))
    assert not list(report.wrong(scenario, failing, 1, 3660))
    assert not list(report.wrong(replace(scenario, strict=False), failing, 0, 3660))
