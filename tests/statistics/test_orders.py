"""The orders about statistics, beside a running mirror and without one."""

from __future__ import annotations

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
    Record,
    Status,
    StatusOrder,
    Top,
    TopOrder,
    Work,
)
from tests.standin import Image
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered

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


async def test_orders_about_a_running_mirror_say_that_they_need_one(run: Run, folder: Path) -> None:
    async with run():
        pass
    for order in (FetchesOrder(), ErrorsOrder()):
        with pytest.raises(OrderError, match="needs a running mirror"):
            await told(folder, order, Fetches)
