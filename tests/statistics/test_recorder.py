"""The recorder counts each minute once, and estimates cautiously what hits spare."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mirror.statistics.history import ITSELF, History
from mirror.statistics.recorder import Readings, Recorder
from mirror.statistics.top import TopLists
from mirror.upstream.telemetry import Kind, UpstreamResponse
from tests.support.memory_metadata import MemoryMetadata

HUB = "docker.io"
NOON = 2_000_001_600.0


class Time:
    """A wall clock and a timer that go on together, unless the clock is set."""

    def __init__(self) -> None:
        self.timer = 0.0
        self.wall = NOON

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        self.timer += seconds
        self.wall += seconds


@pytest.fixture
def time() -> Time:
    """The time of the recorder."""
    return Time()


@pytest.fixture
def index() -> MemoryMetadata:
    """The index of the recorder."""
    return MemoryMetadata()


@pytest.fixture
async def recorder(time: Time, index: MemoryMetadata) -> Recorder:
    """A recorder that has begun at noon."""
    history, top = History(index), TopLists(index)
    recorder = Recorder(history, top, wall=lambda: time.wall, timer=lambda: time.timer)
    await recorder.load()
    return recorder


def answer(
    kind: Kind, seconds: float, status: int | None = 200, method: str = "GET"
) -> UpstreamResponse:
    """An answer of upstream."""
    return UpstreamResponse(HUB, "", kind, method, status, seconds, "library/nginx", "latest")


def recorded(recorder: Recorder, minute: float, upstream: str | None = HUB) -> int:
    """Return the requests in the history of a minute."""
    at = int(minute)
    return recorder.history.total(upstream, 60, at, at + 60).requests


def test_a_minute_is_recorded_when_it_is_over(recorder: Recorder, time: Time) -> None:
    recorder.counts(HUB).add("manifest", "hit", 100, 0.0)
    time.go_on(59)
    recorder.tick()
    assert recorded(recorder, NOON) == 0
    assert recorder.current(HUB) == (NOON, recorder.counts(HUB).figures())
    time.go_on(1)
    recorder.tick()
    assert recorded(recorder, NOON) == recorded(recorder, NOON, None) == 1
    assert recorder.current(HUB)[1].requests == 0
    assert recorder.history.total(ITSELF, 60, int(NOON), int(NOON) + 60).ran == 60


def test_the_last_minute_is_recorded_at_the_stop(recorder: Recorder, time: Time) -> None:
    recorder.counts(HUB).add("blob", "miss", 100, 0.0)
    time.go_on(10)
    recorder.stop()
    assert recorded(recorder, NOON) == 1


async def test_a_minute_without_requests_has_the_mirrors_own_row_alone(
    recorder: Recorder, time: Time, index: MemoryMetadata
) -> None:
    recorder.counts(HUB)
    time.go_on(60)
    recorder.tick()
    assert {row.upstream for row in await index.history()} == {ITSELF}


def test_a_clock_that_is_set_moves_no_recorded_request(recorder: Recorder, time: Time) -> None:
    recorder.counts(HUB).add("blob", "miss", 100, 0.0)
    time.wall = 1000.0
    recorder.tick()
    assert recorded(recorder, NOON) == 1
    recorder.counts(HUB).add("blob", "miss", 100, 0.0)
    time.wall = NOON + 120
    recorder.tick()
    assert recorded(recorder, 960) == 1


@pytest.mark.parametrize(
    ("outcome", "hits", "stale", "errors", "from_cache"),
    [
        ("hit", 1, 0, 0, 100),
        ("revalidated", 1, 0, 0, 100),
        ("stale", 1, 1, 0, 100),
        ("miss", 0, 0, 0, 0),
    ],
)
def test_each_outcome_is_counted_as_it_is(
    recorder: Recorder, outcome: str, hits: int, stale: int, errors: int, from_cache: int
) -> None:
    counts = recorder.counts(HUB)
    counts.add("blob", outcome, 100, 0.0)
    assert (counts.requests, counts.sent) == (1, 100)
    assert (counts.hits, counts.stale, counts.errors) == (hits, stale, errors)
    assert counts.sent_from_cache == from_cache


def test_bytes_of_an_error_are_not_sent(recorder: Recorder) -> None:
    counts = recorder.counts(HUB)
    counts.add("blob", "error", 100, 0.0)
    assert (counts.requests, counts.errors, counts.sent) == (1, 1, 0)


def test_a_hit_spares_the_median_wait_and_the_time_of_its_bytes(
    recorder: Recorder, time: Time
) -> None:
    for seconds in (0.1, 0.2, 9.0):
        recorder.answer(answer("manifest", seconds))
        recorder.answer(answer("blob", 2 * seconds))
    recorder.fetched(HUB, 1_000_000, 2.0)
    recorder.tick()
    counts = recorder.counts(HUB)
    counts.add("manifest", "hit", 0, 0.05)
    assert counts.figures().spared == 150
    counts.add("blob", "hit", 500_000, 0.4)
    assert counts.figures().spared == 150 + 1000


def test_without_a_measurement_nothing_is_spared(recorder: Recorder) -> None:
    counts = recorder.counts(HUB)
    counts.add("blob", "hit", 10**9, 0.0)
    assert counts.figures().spared == 0


def test_a_slow_client_and_a_stale_answer_spare_nothing(recorder: Recorder) -> None:
    recorder.answer(answer("manifest", 1.0))
    recorder.tick()
    counts = recorder.counts(HUB)
    counts.add("manifest", "hit", 0, 5.0)
    counts.add("manifest", "stale", 0, 0.1)
    assert counts.figures().spared == 0


def test_small_fetches_and_failures_say_nothing_about_upstreams_pace(recorder: Recorder) -> None:
    recorder.fetched(HUB, 1000, 10.0)
    recorder.answer(answer("manifest", 30.0, status=None))
    recorder.answer(answer("manifest", 30.0, status=503))
    recorder.answer(answer("token", 30.0))
    recorder.tick()
    counts = recorder.counts(HUB)
    counts.add("blob", "hit", 10**9, 0.0)
    figures = counts.figures()
    assert figures.spared == 0
    assert (figures.upstream_requests, figures.upstream_failures) == (3, 2)
    assert recorder.median(HUB, 3600) is None


def test_only_counted_answers_are_counted(recorder: Recorder) -> None:
    recorder.answer(answer("manifest", 0.1, method="HEAD"))
    recorder.answer(answer("manifest", 0.1))
    assert recorder.counts(HUB).counted == 1


@dataclass
class Registry:
    """The counters of a registry's client."""

    received: int = 0
    down: bool = False


def test_figures_of_other_parts_are_read_as_increases(recorder: Recorder, time: Time) -> None:
    registry, asked, total = Registry(received=500), {HUB: 7}, {"evicted": 100, "logins": 5}
    recorder.read(
        Readings(
            registries={HUB: registry},  # type: ignore[dict-item]
            asked=asked,
            evicted=lambda: total["evicted"],
            totals={"logins": lambda: total["logins"]},
        )
    )
    recorder.tick()
    registry.received, asked[HUB] = 800, 9
    total.update(evicted=150, logins=8)
    recorder.tick()
    counts = recorder.counts(HUB)
    assert (counts.received, counts.asked) == (800, 9)
    assert recorder.counts(ITSELF).evicted == 50
    assert recorder.increase("logins") == 3
    assert recorder.increase("unknown") == 0
    for _ in range(62):
        time.go_on(60)
        recorder.tick()
    assert recorder.increase("logins") == 0


def test_the_time_of_an_outage_is_measured(recorder: Recorder, time: Time) -> None:
    registry = Registry()
    recorder.read(Readings({HUB: registry}, {}, lambda: 0))  # type: ignore[dict-item]
    recorder.tick()
    assert recorder.down_for(HUB) is None
    registry.down = True
    recorder.tick()
    time.go_on(30)
    recorder.tick()
    assert recorder.down_for(HUB) == 30
    registry.down = False
    recorder.tick()
    assert recorder.down_for(HUB) is None


async def test_top_lists_are_written_every_ten_minutes(
    recorder: Recorder, time: Time, index: MemoryMetadata
) -> None:
    recorder.top.add("nginx", "me", 1, 10)
    time.go_on(540)
    recorder.tick()
    assert not await index.top()
    time.go_on(60)
    recorder.tick()
    assert {(row.hour, row.name, row.pulls) for row in await index.top()} == {
        (int(NOON), "nginx", 1),
        (int(NOON), "me", 1),
    }
