"""What runs of `warm` bring makes no room by what clients use, or another run brings."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mirror.admin.messages import Pinned, PinOrder, Warmed, WarmOrder
from mirror.storage.catalog import charged
from tests.standin import Fault, Hub, Image, make_image, make_index
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered

AMD64 = ("linux/amd64",)
SIZE = "64MiB"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of `run`."""
    return tmp_path / "data"


async def warmed(folder: Path, *images: str, dry: bool = False) -> Warmed:
    """Have images warmed; returns the result."""
    async with asyncio.timeout(20):
        records = [
            each async for each in ordered(folder, WarmOrder(images, platforms=AMD64, dry=dry))
        ]
    assert isinstance(records[-1], Warmed)
    return records[-1]


def hold(hub: Hub, *megabytes: int) -> list[Image]:
    """Have the hub hold images of these sizes, as `b0:1` and so on."""
    images = [make_image(f"room/{n}", [size * 1_000_000]) for n, size in enumerate(megabytes)]
    for number, image in enumerate(images):
        hub.add(image, f"library/b{number}", "1")
    return images


def has(mirror: Mirror, image: Image) -> bool:
    """Whether all blobs of an image are stored."""
    return all(mirror.stored.has(blob.digest) for blob in image.blobs)


async def test_content_that_clients_used_lately_is_not_evicted_for_a_run(
    hub: Hub, run: Run, folder: Path
) -> None:
    used, old, first, second = hold(hub, 20, 25, 25, 25)
    async with run(max_size=SIZE) as mirror:
        await mirror.pull("library/b1", "1", old)
        mirror.stored.age(2 * 3600)
        await mirror.pull("library/b0", "1", used)
        result = await warmed(folder, "b2:1", "b3:1")
        assert has(mirror, used)
        assert not has(mirror, old)
        assert [has(mirror, first), has(mirror, second)].count(True) == 1
    [failure] = [each.failure for each in result.images if each.failure]
    assert failure.startswith("it does not fit: 23.9 MiB are needed, and 23.9 MiB are for other")
    assert "; max_size, 64.0 MiB, has room for " in failure
    assert failure.endswith(" beside 19.1 MiB that were used in the last hour")


async def test_what_an_earlier_run_brought_is_not_evicted_either(
    hub: Hub, run: Run, folder: Path
) -> None:
    images = hold(hub, 20, 20, 30)
    async with run(max_size=SIZE) as mirror:
        assert (await warmed(folder, "b0:1", "b1:1")).failed == 0
        assert (await warmed(folder, "b2:1")).failed == 1
        assert [has(mirror, each) for each in images] == [True, True, False]
        mirror.stored.age(2 * 3600)
        assert (await warmed(folder, "b2:1")).failed == 0


async def test_runs_at_the_same_time_share_the_room(hub: Hub, run: Run, folder: Path) -> None:
    hold(hub, 40, 40)
    go = asyncio.Event()
    async with run(max_size=SIZE) as mirror:
        hub.faults.add(Fault(kind="blob", port="cdn", stall_after=100, until=go))
        first = asyncio.create_task(warmed(folder, "b0:1"))
        await hub.seen(lambda seen: seen.port == "cdn")
        other = await warmed(folder, "b1:1")
        go.set()
        assert (await first).failed == 0
        assert other.failed == 1
        assert mirror.stored.evicted == 0
        mirror.stored.age(2 * 3600)
        assert (await warmed(folder, "b1:1")).failed == 0  # the room was left


async def test_no_pull_is_spent_once_the_images_of_a_run_do_not_fit(
    hub: Hub, run: Run, folder: Path
) -> None:
    hold(hub, *[15] * 20)
    async with run(max_size=SIZE) as mirror:
        names = [f"b{number}:1" for number in range(20)]
        result = await warmed(folder, *names)
        stored = len(names) - result.failed
        assert (stored, mirror.stored.evicted) == (4, 0)
    assert hub.pulls <= stored + 4  # those that were on their way
    assert str(result.images[-1].failure).startswith(
        "it was not pulled: the images before it do not fit; max_size, 64.0 MiB, has room for "
    )


async def test_an_image_larger_than_max_size_stops_no_other_image(
    hub: Hub, run: Run, folder: Path
) -> None:
    hold(hub, 100, 10, 10, 10, 10, 10)
    async with run(max_size=SIZE):
        result = await warmed(folder, *(f"b{number}:1" for number in range(6)))
    assert [each.failure is None for each in result.images] == [False, *[True] * 5]


async def test_a_pinned_image_takes_the_room_of_what_was_used(
    hub: Hub, run: Run, folder: Path
) -> None:
    used, _ = hold(hub, 40, 40)
    pinned = make_image("pinned", [1000])
    hub.add(make_index([pinned, make_image("o", [10], architecture="arm64")]), "library/p", "1")
    hub.add(pinned, "library/p")
    async with run(max_size=SIZE) as mirror:
        await mirror.pull("library/b0", "1", used)
        assert (await mirror.manifest("library/b1", "1")).status == 200
        async for record in ordered(folder, PinOrder(("b1:1",))):
            assert isinstance(record, Pinned)
        assert (await warmed(folder, "b1:1")).failed == 0


async def test_a_dry_run_tells_the_room_and_takes_none(hub: Hub, run: Run, folder: Path) -> None:
    images = hold(hub, 40, 40)
    async with run(max_size=SIZE) as mirror:
        for number in range(2):
            assert (await mirror.manifest(f"library/b{number}", "1")).status == 200
        planned = await warmed(folder, "b0:1", "b1:1", dry=True)
        assert (planned.failed, planned.needed) == (
            1,
            sum(charged(blob.size) for blob in images[0].blobs),
        )
        assert 60 * 2**20 < planned.room < 64 * 2**20
        assert (await warmed(folder, "b1:1")).failed == 0
        assert has(mirror, images[1])


async def test_content_of_the_run_itself_is_no_content_of_others(
    hub: Hub, run: Run, folder: Path
) -> None:
    images = hold(hub, 20, 20, 15)
    async with run(max_size=SIZE) as mirror:
        for number in range(2):
            await mirror.pull(f"library/b{number}", "1", images[number])
        assert (await warmed(folder, "b0:1", "b1:1", "b2:1")).failed == 0
        assert all(has(mirror, each) for each in images)
