"""A pull that can finish does, under any fault of upstream's body, at little more cost."""

from __future__ import annotations

import aiohttp
import pytest

from tests.standin import Blob, Fault, Hub, make_image
from tests.support.mirror import Mirror, Run

REPOSITORY = "library/large"
SIZE = 8_000_000


@pytest.fixture
def layer(hub: Hub) -> Blob:
    """A layer of eight megabytes."""
    image = make_image(40, [SIZE])
    hub.add(image, REPOSITORY, "latest")
    return image.layers[0]


@pytest.mark.parametrize("every", [1, 70_000, 300_000, 1_000_000])
async def test_a_body_cut_many_times_costs_no_byte_twice(
    hub: Hub, run: Run, layer: Blob, every: int
) -> None:
    hub.faults.add(Fault(kind="blob", cut_after=every, times=4))
    async with run() as mirror:
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
    assert hub.blob_bytes(layer.digest) <= 1.05 * SIZE
    assert hub.count(kind="blob", port="cdn") == 5
    assert hub.count(kind="blob", port="registry", status=307) == 5  # each part has a new signature


async def test_a_stalled_body_is_cut_and_resumed(hub: Hub, run: Run, layer: Blob) -> None:
    hub.faults.add(Fault(kind="blob", stall_after=3_000_000, times=2))
    async with run(silence_timeout=0.3) as mirror:
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
    assert hub.blob_bytes(layer.digest) <= 1.05 * SIZE


@pytest.mark.parametrize("status", [200, 403])
async def test_a_page_in_the_place_of_the_rest_costs_a_pause(
    hub: Hub, mirror: Mirror, layer: Blob, status: int
) -> None:
    hub.faults.add(Fault(kind="blob", cut_after=5_000_000))
    hub.faults.add(Fault.page("blob", status=status))
    assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
    assert hub.blob_bytes(layer.digest) <= 1.7 * SIZE  # the whole blob once, after the first part


async def test_pages_in_the_place_of_the_rest_cost_nothing_that_came_before(
    hub: Hub, run: Run, layer: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", cut_after=5_000_000))
    hub.faults.add(Fault.page("blob", status=403, times=None))
    async with run(resume_timeout=0.5) as mirror:
        with pytest.raises(aiohttp.ClientPayloadError):
            await mirror.blob(REPOSITORY, layer.digest)
        await mirror.settled()
        hub.faults.clear()
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
    assert hub.blob_bytes(layer.digest) <= 1.05 * SIZE


async def test_wrong_bytes_that_are_too_many_are_thrown_away(
    hub: Hub, run: Run, layer: Blob
) -> None:
    async with run() as mirror:
        pass
    mirror.folder.partial(layer.digest).write_bytes(bytes(layer.size + 1))
    async with run() as mirror:
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


@pytest.mark.parametrize("claimed", [SIZE // 2, 2 * SIZE], ids=["too short", "too long"])
async def test_a_wrong_content_length_completes_no_client_and_is_not_stored(
    hub: Hub, run: Run, layer: Blob, claimed: int
) -> None:
    hub.faults.add(Fault(kind="blob", content_length=claimed, times=None))
    async with run(silence_timeout=0.5, resume_timeout=0.5) as mirror:
        with pytest.raises(aiohttp.ClientPayloadError):
            await mirror.blob(REPOSITORY, layer.digest)
        await mirror.settled()
        assert not len(mirror.stored.digests)
        hub.faults.clear()
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


async def test_an_upstream_that_restarts_midway_costs_a_pause(
    hub: Hub, run: Run, layer: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", cut_after=SIZE // 2))
    hub.faults.add(Fault(kind="blob", drop=True, times=8))  # more failures than open the breaker
    async with run() as mirror:
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
    assert hub.blob_bytes(layer.digest) <= 1.05 * SIZE
