"""The orders about statistics, beside a running mirror and without one."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import TypeVar

import pytest

from mirror.admin.messages import (
    ErrorsOrder,
    Fetches,
    FetchesOrder,
    History,
    HistoryOrder,
    OrderError,
    RecentRequests,
    Record,
    Status,
    StatusOrder,
    Top,
    TopOrder,
    Work,
)
from mirror.admin.messages.history import Span
from mirror.storage.metadata.rows import Figures
from tests.standin import Fault, Hub, Image
from tests.support.folder import DataFolder
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered
from tests.support.waiting import until

R = TypeVar("R", bound=Record)


async def told(folder: Path, order: Work, kind: type[R]) -> R:
    """Have an order carried out; returns its one record."""
    [record] = [record async for record in ordered(folder, order)]
    assert isinstance(record, kind)
    return record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of `run`."""
    return tmp_path / "data"


async def test_a_pull_and_its_repetition_are_in_all_figures(
    mirror: Mirror, image: Image, folder: Path
) -> None:
    for _ in range(2):
        await mirror.pull("library/nginx", "latest", image)
    await mirror.settled()
    status = await told(folder, StatusOrder(), Status)
    hour = status.spans[0]
    assert status.running
    assert hour.hits == hour.requests // 2
    assert hour.sent == 2 * hour.sent_from_cache > 4_000_000
    assert hour.asked == 2 * hour.counted
    assert hour.received >= 2_300_000
    [upstream] = status.upstreams
    assert (upstream.name, upstream.state, upstream.failures) == ("docker.io", "up", 0)
    assert upstream.median is not None
    history = await told(folder, HistoryOrder(span="hour"), History)
    assert sum(point.requests for point in history.points) == hour.requests
    top = await told(folder, TopOrder(), Top)
    assert [(row.name, row.sent) for row in top.images] == [("docker.io/library/nginx", hour.sent)]
    assert [row.name for row in top.clients] == ["127.0.0.1"]


async def test_figures_outlive_a_stop_and_can_be_read_without_a_mirror(
    run: Run, image: Image, folder: Path
) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        before = await told(folder, StatusOrder(), Status)
    offline = await told(folder, StatusOrder(), Status)
    assert not offline.running
    assert [concern.key for concern in offline.concerns] == ["not_running"]
    assert offline.spans[1].requests == before.spans[1].requests
    assert offline.disk.blobs == before.disk.blobs > 0
    top = await told(folder, TopOrder(), Top)
    assert [row.name for row in top.images] == ["docker.io/library/nginx"]
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        after = await told(folder, StatusOrder(), Status)
    assert after.spans[1].requests == 2 * before.spans[1].requests


async def test_a_plain_hit_is_no_recent_request(mirror: Mirror, image: Image, folder: Path) -> None:
    for _ in range(2):
        await mirror.pull("library/nginx", "latest", image)
    recent = await told(folder, ErrorsOrder(outcome="any"), RecentRequests)
    assert {request.outcome for request in recent.requests} == {"miss"}
    assert recent.requests[-1].image == "docker.io/library/nginx:latest"
    assert (await told(folder, ErrorsOrder(), RecentRequests)).requests == ()


async def test_errors_have_their_reasons_and_are_found_by_image_and_client(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    hub.faults.add(Fault(kind="manifest", status=500, times=None))
    for name in ("one", "two"):
        hub.add(image, f"library/{name}", "latest")
        assert (await mirror.manifest(f"library/{name}", "latest")).status == 503
    recent = await told(folder, ErrorsOrder(), RecentRequests)
    newest, oldest = recent.requests
    assert (newest.image, oldest.image) == (
        "docker.io/library/two:latest",
        "docker.io/library/one:latest",
    )
    assert (newest.outcome, newest.status, newest.client) == ("error", 503, "127.0.0.1")
    assert "500" in newest.cause
    for order, count in (
        (ErrorsOrder(image="docker.io/library/one"), 1),
        (ErrorsOrder(image="docker.io/library/one:latest"), 1),
        (ErrorsOrder(image="docker.io/library/on"), 0),
        (ErrorsOrder(client="127.0.0.1"), 2),
        (ErrorsOrder(client="10.9.9.9"), 0),
        (ErrorsOrder(outcome="stale"), 0),
        (ErrorsOrder(most=1), 1),
    ):
        assert len((await told(folder, order, RecentRequests)).requests) == count, order


async def test_a_stale_answer_says_why(run: Run, hub: Hub, image: Image, folder: Path) -> None:
    async with run(tag_ttl=0, stale_after=0.2) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        hub.faults.add(Fault(kind="manifest", status=503, times=None))
        assert (await mirror.manifest("library/nginx", "latest")).cache == "hit; detail=stale"
        [stale] = (await told(folder, ErrorsOrder(), RecentRequests)).requests
        status = await told(folder, StatusOrder(), Status)
    assert (stale.outcome, stale.cause) == ("stale", "upstream could not be asked")
    assert status.spans[0].stale == 1


async def test_a_fetch_under_way_shows_how_far_it_is_and_who_follows(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    layer = image.layers[-1]
    go = asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=layer.size // 2, until=go))
    pulls = [asyncio.create_task(mirror.blob("library/nginx", layer.digest)) for _ in range(2)]
    await until(lambda: mirror.daemon.fetches.followers == 2)
    await until(lambda: any(each.received for each in mirror.daemon.fetches.states()))
    [fetch] = (await told(folder, FetchesOrder(), Fetches)).fetches
    status = await told(folder, StatusOrder(), Status)
    go.set()
    await asyncio.gather(*pulls)
    assert (fetch.repository, fetch.digest) == ("docker.io/library/nginx", layer.digest)
    assert (fetch.size, fetch.followers) == (layer.size, 2)
    assert 0 < fetch.received <= layer.size // 2
    assert fetch.rate > 0
    assert (status.fetches, status.followers) == (1, 2)
    await mirror.settled()
    assert (await told(folder, FetchesOrder(), Fetches)).fetches == ()


async def test_an_upstream_that_is_down_is_a_concern_until_it_answers(
    run: Run, folder: Path
) -> None:
    upstreams = {"docker.io": {"url": "http://127.0.0.1:9"}}
    async with run(upstreams=upstreams) as mirror:
        for number in range(9):
            await mirror.manifest("library/nginx", f"v{number}")
        status = await told(folder, StatusOrder(), Status)
    [upstream] = status.upstreams
    assert (upstream.state, upstream.median) == ("down", None)
    assert upstream.down_for is not None
    assert upstream.failures > 0
    assert "upstream_down" in {concern.key for concern in status.concerns}


async def test_an_upstream_that_fails_each_request_is_not_called_up(
    run: Run, hub: Hub, image: Image, folder: Path
) -> None:
    async with run() as mirror:
        await hub.down("registry")
        assert not await mirror.serves("library/nginx", "latest")
        status = await told(folder, StatusOrder(), Status)
        await hub.up("registry")
        assert [each.state for each in status.upstreams] == ["failing"]
        assert "upstream_failing" in {concern.key for concern in status.concerns}
        assert "✕ fails" in (await mirror.ask("/")).text
        await until(lambda: mirror.serves("library/nginx", "latest"))
        status = await told(folder, StatusOrder(), Status)
        assert [each.state for each in status.upstreams] == ["up"]


async def test_the_state_needs_no_row_of_the_index(
    mirror: Mirror, image: Image, folder: Path
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    with DataFolder(folder).held():
        async with asyncio.timeout(2):
            for order, kind in ((StatusOrder(), Status), (HistoryOrder(), History)):
                await told(folder, order, kind)


@pytest.mark.parametrize(
    ("span", "step", "points"),
    [("hour", 60, 60), ("day", 600, 144), ("week", 3600, 168), ("month", 3600, 720)],
)
async def test_a_span_has_whole_steps_that_end_with_the_current_one(
    mirror: Mirror, folder: Path, span: Span, step: int, points: int
) -> None:
    history = await told(folder, HistoryOrder(span=span), History)
    assert (history.step, (history.end - history.begin) // history.step) == (step, points)
    assert history.end % step == 0
    assert 0 < history.end - time.time() <= step
    assert mirror.daemon.fetches.states() == []


async def test_steps_that_are_not_recorded_for_so_long_are_refused(
    mirror: Mirror, image: Image, folder: Path
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    with pytest.raises(OrderError, match="steps of 60 s are not recorded for a week"):
        await told(folder, HistoryOrder(span="week", step=60), History)
    fine = await told(folder, HistoryOrder(span="day", step=60), History)
    [point] = [point for point in fine.points if point.requests]
    assert point.at % 60 == 0
    nothing = await told(folder, HistoryOrder(upstream="unknown.example"), History)
    assert nothing.points == ()


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE history",
        "DROP TABLE top",
        "UPDATE history SET at = 9223372036854775807 - step",
        "UPDATE history SET sent = 9223372036854775807, at = -at",
        "UPDATE top SET pulls = 9223372036854775807, name = char(27) || '[2J'",
    ],
)
async def test_a_damaged_history_ends_no_start_and_no_pull(
    run: Run, image: Image, folder: Path, damage: str
) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
    with DataFolder(folder).database() as database:
        database.execute(damage)
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        status = await told(folder, StatusOrder(), Status)
        assert status.spans[0].requests >= 5
        assert (await told(folder, HistoryOrder(span="year"), History)).points
        await told(folder, TopOrder(), Top)
    async with run() as mirror:
        assert (await told(folder, StatusOrder(), Status)).spans[0].requests >= 5


async def test_orders_about_a_running_mirror_say_that_they_need_one(run: Run, folder: Path) -> None:
    async with run():
        pass
    for order in (FetchesOrder(), ErrorsOrder()):
        with pytest.raises(OrderError, match="no mirror takes orders on"):
            await told(folder, order, Fetches)


async def test_the_days_that_unused_content_stays_follow_from_the_evictions(
    run: Run, image: Image, folder: Path
) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        kept = mirror.daemon.store.catalog.bytes
    hour = int(time.time()) // 3600 * 3600
    steps = [(600, hour - number * 600, "", kept // 20, 600) for number in range(150)]
    with DataFolder(folder).database() as database:
        database.execute("DELETE FROM history")
        columns = [*Figures._fields[:-2], "evicted", "ran"]
        zeros = ", ".join("0" for _ in Figures._fields[:-2])
        database.executemany(
            f"INSERT INTO history (step, at, upstream, {', '.join(columns)}) "
            f"VALUES (?, ?, ?, {zeros}, ?, ?)",
            steps,
        )
    disk = (await told(folder, StatusOrder(), Status)).disk
    assert disk.lasts == pytest.approx(20 * 600 / 86_400, rel=0.02)  # a twentieth each ten minutes


async def test_a_look_leaves_no_line_in_the_log(
    mirror: Mirror, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for order, kind in ((StatusOrder(), Status), (FetchesOrder(), Fetches), (TopOrder(), Top)):
        await told(folder, order, kind)
    assert "order: " not in caplog.text
    assert mirror.daemon.fetches.states() == []
