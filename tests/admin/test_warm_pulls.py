"""Runs of `warm` leave the pulls that they are told to leave, one beside the other, and say so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mirror.admin.messages import Warmed, WarmOrder
from tests.standin import Fault, Hub, make_image, make_index
from tests.support.mirror import Mirror
from tests.support.orders import ordered

AMD64 = ("linux/amd64",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of `run`."""
    return tmp_path / "data"


async def warmed(folder: Path, *images: str, leave: int | None = None, dry: bool = False) -> Warmed:
    """Have images warmed; returns the result."""
    order = WarmOrder(images, platforms=AMD64, leave=leave, dry=dry)
    async with asyncio.timeout(20):
        records = [each async for each in ordered(folder, order)]
    assert isinstance(records[-1], Warmed)
    return records[-1]


def hold(hub: Hub, count: int) -> list[str]:
    """Have the hub hold indexes, each of two pulls for a platform; returns their names."""
    for number in range(count):
        image = make_image(f"pulls/{number}", [1000])
        hub.add(make_index([image]), f"library/a{number}", "1")
        hub.add(image, f"library/a{number}")
    return [f"a{number}:1" for number in range(count)]


async def limit_known(hub: Hub, mirror: Mirror, limit: int) -> None:
    """Have the hub limit pulls, and the mirror know it: one is spent."""
    hub.terms.limit = limit
    hub.add(make_image("first", [10]), "library/first", "1")
    assert (await mirror.manifest("library/first", "1")).status == 200
    assert hub.pulls == 1


async def test_runs_at_the_same_time_leave_the_pulls_together(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    await limit_known(hub, mirror, 9)
    names = hold(hub, 4)
    go = asyncio.Event()
    hub.faults.add(Fault(kind="manifest", method="GET", hang=True, until=go, times=None))
    first = asyncio.create_task(warmed(folder, *names[:3], leave=4))
    await hub.seen(lambda seen: seen.kind == "manifest" and seen.method == "GET", 2)
    other = asyncio.create_task(warmed(folder, names[3], leave=4))
    await hub.seen(lambda seen: seen.kind == "manifest" and seen.repository == "library/a3")
    go.set()
    results = await asyncio.gather(first, other)
    assert hub.pulls == 1 + 4
    assert sum(each.pulls for result in results for each in result.images) == 4
    assert sum(result.failed for result in results) == 2


async def test_no_index_is_pulled_whose_platform_would_be_left(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    await limit_known(hub, mirror, 8)
    names = hold(hub, 4)
    result = await warmed(folder, *names, leave=2)
    assert sorted(each.pulls for each in result.images) == [0, 0, 2, 2]
    assert hub.pulls == 1 + 4


async def test_the_result_says_how_many_pulls_are_left(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    await limit_known(hub, mirror, 20)
    result = await warmed(folder, *hold(hub, 2), leave=5)
    assert [(each.upstream, each.pulls) for each in result.pulls_left] == [("docker.io", 15)]
    assert result.leave == 5


async def test_without_a_limit_no_number_of_pulls_is_told(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    assert (await warmed(folder, *hold(hub, 1), leave=5)).pulls_left == ()


async def test_a_dry_run_refuses_the_images_that_the_run_would_refuse(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    await limit_known(hub, mirror, 10)
    names = hold(hub, 4)
    planned = await warmed(folder, *names, leave=4, dry=True)
    assert (planned.pulls, planned.failed) == (4, 2)
    assert "4 of them for other images, and it needs 2: 4 are to be left" in str(
        next(each.failure for each in planned.images if each.failure)
    )
    assert hub.pulls == 1
    real = await warmed(folder, *names, leave=4)
    assert (real.pulls, real.failed) == (planned.pulls, planned.failed)
