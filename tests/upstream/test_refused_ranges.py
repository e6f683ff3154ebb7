"""Refused ranges: for any answer to a question for a part of a blob, the whole decides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest

from tests.standin import Blob, Fault, Hub, Image, make_image
from tests.standin.journal import Seen
from tests.support.mirror import Mirror, Run

REPOSITORY = "library/large"
SIZE = 24_000_000

WAYS = {
    **{str(status): Fault(status=status) for status in (400, 401, 403, 404, 405, 416, 429, 500)},
    "limit of an hour": Fault.abuse(retry_after=3600),
    "page": Fault.page(),
    "page of a 403": Fault.page(status=403),
    "no Content-Range": Fault(headers={"Content-Range": None}),
    "no Content-Range that is one": Fault(headers={"Content-Range": "5-9"}),
    "no total": Fault(headers={"Content-Range": "bytes 5-9/*"}),
    "less than was asked for": Fault(headers={"Content-Range": "bytes 8000000-8000009/9000000"}),
    "another start": Fault(headers={"Content-Range": f"bytes 5-{SIZE}/{SIZE + 1}"}),
    "another total": Fault(headers={"Content-Range": "bytes 9-99/100"}),
    "silence": Fault(hang=True),
    "a lost connection": Fault(drop=True),
    "no byte of the body": Fault(cut_after=0),
    "little of the body": Fault(cut_after=1000),
    "a silent body": Fault(stall_after=0),
}


@pytest.fixture
def layer(hub: Hub) -> Blob:
    """A layer so large that a fetch without a client is not completed."""
    image = make_image(50, [SIZE])
    hub.add(image, REPOSITORY, "latest")
    return image.layers[0]


def path(layer: Blob) -> str:
    """The path of the layer at the mirror."""
    return f"/v2/{REPOSITORY}/blobs/{layer.digest}"


def patience(way: str) -> dict[str, object]:
    """Configure a short patience for a fault that is silence."""
    silent = way in ("silence", "a silent body")
    return {"answer_timeout": 1, "silence_timeout": 1} if silent else {}


def is_ranged(seen: Seen) -> bool:
    """Whether a part is asked for."""
    return seen.range is not None


def refuse_ranges(hub: Hub, way: str) -> None:
    """Have the hub answer every ranged question for a blob with this fault."""
    hub.faults.add(replace(WAYS[way], kind="blob", method="GET", match=is_ranged, times=None))


def ranged(hub: Hub) -> int:
    """Count the ranged questions at the registry."""
    return sum(is_ranged(seen) for seen in hub.journal.matching(kind="blob", port="registry"))


async def leave_midway(hub: Hub, mirror: Mirror, layer: Blob) -> None:
    """Have a client leave, and the fetch stop, with a good part of the layer received."""
    hub.faults.add(Fault(kind="blob", stall_after=8_000_000))
    async with mirror.request(path(layer)) as leaver:
        await leaver.content.readexactly(4_000_000)
    await mirror.settled()


@pytest.mark.parametrize("redirect", [True, False], ids=["elsewhere", "here"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_partial_costs_no_later_client_the_blob(
    hub: Hub, run: Run, layer: Blob, way: str, redirect: bool
) -> None:
    hub.terms.redirect = redirect
    async with run(abandon_after=0, **patience(way)) as mirror:
        await leave_midway(hub, mirror, layer)
        refuse_ranges(hub, way)
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
        assert (await mirror.blob(REPOSITORY, layer.digest)).cache == "hit"
    assert hub.blob_bytes(layer.digest) <= 2 * SIZE
    assert ranged(hub) <= 6  # a lost connection is retried


@pytest.mark.parametrize("way", WAYS)
async def test_clients_of_a_body_that_breaks_off_see_a_pause(
    hub: Hub, run: Run, layer: Blob, way: str
) -> None:
    go = asyncio.Event()
    hub.add(make_image(50, [SIZE]), "team/other", "latest")
    hub.faults.add(
        Fault(kind="blob", method="GET", stall_after=16_000_000, until=go, cut_after=17_000_000)
    )
    refuse_ranges(hub, way)
    async with run(**patience(way)) as mirror, mirror.request(path(layer)) as early:
        first = await early.content.readexactly(1_000_000)
        other = asyncio.create_task(mirror.blob("team/other", layer.digest))
        go.set()
        assert first + await early.read() == layer.read()
        assert (await other).body == layer.read()
    assert hub.blob_bytes(layer.digest) <= 2 * SIZE


@pytest.mark.parametrize("way", WAYS)
async def test_a_partial_that_a_restart_left_costs_no_client_the_blob(
    hub: Hub, run: Run, layer: Blob, way: str
) -> None:
    hub.faults.add(Fault(kind="blob", stall_after=8_000_000))
    async with run() as mirror, mirror.request(path(layer)) as cut:
        await cut.content.readexactly(4_000_000)
    refuse_ranges(hub, way)
    async with run(**patience(way)) as mirror:
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
        await mirror.settled()
        assert not mirror.stored.unfinished
    assert hub.blob_bytes(layer.digest) <= 2 * SIZE


async def test_a_host_that_refuses_ranges_is_not_asked_for_them_again_and_again(
    hub: Hub, run: Run
) -> None:
    image = make_image(51, [400_000 + number for number in range(6)])
    hub.add(image, REPOSITORY, "many")
    refuse_ranges(hub, "400")
    async with run() as mirror:
        for layer in image.layers:
            hub.faults.add(Fault(kind="blob", cut_after=200_000))
            assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
    assert ranged(hub) == 2


@pytest.mark.parametrize("left", [b"\0" * 8_000_000, b"\0" * SIZE, b"\0" * 2 * SIZE])
async def test_a_partial_that_is_no_part_of_its_blob_is_thrown_away_in_the_end(
    hub: Hub, run: Run, layer: Blob, left: bytes
) -> None:
    async with run() as mirror:
        pass
    mirror.folder.partial(layer.digest).write_bytes(left)
    refuse_ranges(hub, "403")
    async with run() as mirror:
        for _ in range(2):
            with contextlib.suppress(aiohttp.ClientPayloadError):
                await mirror.blob(REPOSITORY, layer.digest)
        assert (await mirror.blob(REPOSITORY, layer.digest)).cache == "hit"
        await mirror.settled()
        assert not mirror.stored.unfinished


@pytest.mark.parametrize("way", WAYS)
async def test_a_range_far_ahead_is_cut_out_of_the_whole(hub: Hub, run: Run, way: str) -> None:
    image = make_image(6, [40_000_000])
    hub.add(image, REPOSITORY, "huge")
    layer, go = image.layers[0], asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=1_000_000, until=go))
    refuse_ranges(hub, way)
    async with run(**patience(way)) as mirror:
        got = await mirror.blob(REPOSITORY, layer.digest, Range="bytes=39000000-39000999")
        assert got.status == 206
        assert got.body == layer.read()[39_000_000:39_001_000]
        go.set()


@pytest.mark.parametrize("way", WAYS)
async def test_a_bypass_goes_on_by_the_whole(hub: Hub, run: Run, layer: Blob, way: str) -> None:
    refuse_ranges(hub, way)
    async with run(**patience(way)) as mirror:
        go = asyncio.Event()
        hub.faults.add(Fault(kind="blob", method="GET", stall_after=8_000_000, until=go))
        async with mirror.request(path(layer)) as client:
            first = await client.content.readexactly(1_000_000)
            mirror.stored.max_size = 0
            go.set()
            assert first + await client.read() == layer.read()


async def test_a_registrys_own_denial_of_the_whole_is_an_answer(
    hub: Hub, run: Run, layer: Blob
) -> None:
    async with run(abandon_after=0) as mirror:
        await leave_midway(hub, mirror, layer)
        hub.faults.add(Fault(kind="blob", port="registry", status=404, times=None))
        for _ in range(2):
            assert (await mirror.blob(REPOSITORY, layer.digest)).status == 404
    async with run() as mirror:
        hub.faults.clear()
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


async def test_a_second_size_that_is_wrong_once_costs_a_pause(
    hub: Hub, run: Run, layer: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", cut_after=8_000_000))
    hub.faults.add(Fault(kind="blob", status=400, match=is_ranged))
    hub.faults.add(Fault(kind="blob", content_length=SIZE * 2))
    async with run() as mirror:
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


async def test_a_body_that_always_breaks_off_is_not_fetched_again_and_again(
    hub: Hub, run: Run, layer: Blob
) -> None:
    refuse_ranges(hub, "400")
    hub.faults.add(Fault(kind="blob", cut_after=20_000_000, times=None))
    async with run() as mirror:
        with pytest.raises(aiohttp.ClientPayloadError):
            await mirror.blob(REPOSITORY, layer.digest)
        await mirror.settled()
        assert hub.blob_bytes(layer.digest) <= 2 * SIZE
        hub.faults.clear()
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


# Partials and blobs of another upstream


OWN, THERE = "library/nginx", "twin.example/org/app"


@pytest.fixture
async def twin(image: Image) -> AsyncIterator[Hub]:
    """Another registry, which has the same image as `org/app:latest`."""
    async with Hub() as twin:
        twin.add(image, "org/app", "latest")
        yield twin


def two(hub: Hub, twin: Hub, way: str = "") -> dict[str, object]:
    """Configure both upstreams."""
    upstreams = {"docker.io": {"url": hub.url}, "twin.example": {"url": twin.url}}
    return {"upstreams": upstreams, **patience(way)}


@pytest.mark.parametrize("way", WAYS)
async def test_a_blob_of_two_upstreams_is_proven_by_the_whole(
    hub: Hub, twin: Hub, run: Run, image: Image, way: str
) -> None:
    refuse_ranges(twin, way)
    async with run(**two(hub, twin, way)) as mirror:
        await mirror.pull(OWN, "latest", image)
        await mirror.pull(THERE, "latest", image)
        twin.journal.clear()
        for blob in image.blobs:
            assert (await mirror.blob(THERE, blob.digest)).cache == "hit"
            assert (await mirror.blob(OWN, blob.digest)).cache == "hit"
        assert twin.requests == []


async def test_a_part_that_came_wrong_is_no_last_word_on_the_blob(
    hub: Hub, twin: Hub, run: Run, image: Image
) -> None:
    layer = image.layers[-1]
    twin.faults.add(
        Fault(kind="blob", match=is_ranged, body=lambda body: bytes(len(body)), times=None)
    )
    async with run(**two(hub, twin)) as mirror:
        await mirror.pull(OWN, "latest", image)
        assert (await mirror.blob(THERE, layer.digest)).body == layer.read()
        await mirror.settled()
        assert (await mirror.blob(THERE, layer.digest)).cache == "hit"


@pytest.mark.parametrize("way", WAYS)
async def test_what_one_upstream_left_is_fetched_whole_from_another(
    hub: Hub, twin: Hub, run: Run, layer: Blob, way: str
) -> None:
    twin.add(make_image(50, [SIZE]), "org/app", "large")
    refuse_ranges(twin, way)
    async with run(**two(hub, twin, way), abandon_after=0) as mirror:
        await leave_midway(hub, mirror, layer)
        assert (await mirror.blob(THERE, layer.digest)).body == layer.read()
        await mirror.settled()
        assert not mirror.stored.unfinished
        assert (await mirror.blob(THERE, layer.digest)).cache == "hit"
