"""Blobs: one upstream body for any number of clients, of which none completes on unproven bytes."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.standin import Blob, Fault, Hub, Image, make_image
from tests.support.mirror import Mirror, Run
from tests.support.waiting import until

REPOSITORY = "library/big"
SIZE = 6_000_000


@pytest.fixture
def layer(hub: Hub) -> Blob:
    """A layer of some megabytes that the hub has in `library/big`."""
    image = make_image(7, [SIZE])
    hub.add(image, REPOSITORY, "latest")
    return image.layers[0]


def path(layer: Blob) -> str:
    """The path of the layer at the mirror."""
    return f"/v2/{REPOSITORY}/blobs/{layer.digest}"


async def test_a_blob_has_every_header_that_clients_need(mirror: Mirror, layer: Blob) -> None:
    for method in ("HEAD", "GET", "HEAD", "GET"):
        got = await mirror.blob(REPOSITORY, layer.digest, method)
        assert got.status == 200
        assert got.headers["Content-Type"] == "application/octet-stream"
        assert got.headers["Content-Length"] == str(layer.size)
        assert got.headers["Docker-Content-Digest"] == layer.digest
        assert got.headers["ETag"] == f'"{layer.digest}"'
        assert got.headers["Accept-Ranges"] == "bytes"
        assert got.body == (layer.read() if method == "GET" else b"")


async def test_a_head_costs_no_body(hub: Hub, mirror: Mirror, layer: Blob) -> None:
    await mirror.blob(REPOSITORY, layer.digest, "HEAD")
    assert hub.blob_bytes(layer.digest) == 0


async def test_a_warm_blob_asks_upstream_nothing(hub: Hub, mirror: Mirror, layer: Blob) -> None:
    assert (await mirror.blob(REPOSITORY, layer.digest)).cache == "fwd=uri-miss"
    hub.journal.clear()
    warm = await mirror.blob(REPOSITORY, layer.digest)
    assert (warm.cache, warm.body) == ("hit", layer.read())
    assert hub.requests == []


async def test_thirty_two_clients_cost_one_body(hub: Hub, mirror: Mirror, layer: Blob) -> None:
    got = await asyncio.gather(*(mirror.blob(REPOSITORY, layer.digest) for _ in range(32)))
    assert all(answer.body == layer.read() for answer in got)
    assert hub.bodies(layer.digest) == 1
    assert sum("collapsed" in answer.cache for answer in got) == 31


async def test_clients_get_the_first_bytes_as_soon_as_upstream_gives_them(
    hub: Hub, mirror: Mirror, layer: Blob
) -> None:
    go = asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2, until=go))
    async with mirror.request(path(layer)) as early:
        first = await early.content.readexactly(SIZE // 4)
        async with mirror.request(path(layer)) as late:
            assert await late.content.readexactly(SIZE // 4) == first
            go.set()
            assert first + await late.read() == layer.read()
        assert first + await early.read() == layer.read()
    assert hub.bodies(layer.digest) == 1


async def test_a_client_that_leaves_harms_no_other(hub: Hub, mirror: Mirror, layer: Blob) -> None:
    go = asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2, until=go))
    async with mirror.request(path(layer)) as first:
        await first.content.readexactly(1000)
        stayer = asyncio.create_task(mirror.blob(REPOSITORY, layer.digest))
        await _followers(mirror, 2)
    go.set()
    assert (await stayer).body == layer.read()
    assert hub.bodies(layer.digest) == 1


async def test_a_client_that_does_not_read_harms_no_other(
    hub: Hub, mirror: Mirror, layer: Blob
) -> None:
    async with mirror.request(path(layer)) as idle:
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
        assert await idle.read() == layer.read()
    assert hub.bodies(layer.digest) == 1


async def test_the_partial_of_a_lone_client_that_left_is_used(hub: Hub, run: Run) -> None:
    image = make_image(9, [24_000_000])
    hub.add(image, REPOSITORY, "large")
    layer = image.layers[0]
    hub.faults.add(Fault(kind="blob", stall_after=8_000_000))
    async with run(abandon_after=0) as mirror:
        async with mirror.request(path(layer)) as leaver:
            await leaver.content.readexactly(4_000_000)
        await mirror.settled()
        got = await mirror.blob(REPOSITORY, layer.digest)
    assert got.body == layer.read()
    assert hub.blob_bytes(layer.digest) <= 1.1 * layer.size
    [resumed] = [seen for seen in hub.requests if seen.port == "cdn" and seen.range]
    assert int((resumed.range or "").removeprefix("bytes=").rstrip("-")) >= 4_000_000


async def test_a_partial_is_resumed_after_a_restart(hub: Hub, run: Run, layer: Blob) -> None:
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2))
    async with run() as mirror, mirror.request(path(layer)) as cut:
        await cut.content.readexactly(SIZE // 4)
    async with run() as mirror:
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
    assert hub.blob_bytes(layer.digest) <= 1.1 * SIZE


async def test_no_client_completes_on_a_wrong_byte_and_nothing_of_it_is_kept(
    hub: Hub, mirror: Mirror, layer: Blob
) -> None:
    hub.faults.add(Fault(kind="blob", corrupt_at=SIZE // 3))
    clients = [mirror.blob(REPOSITORY, layer.digest) for _ in range(5)]
    got = await asyncio.gather(*clients, return_exceptions=True)
    assert all(isinstance(answer, aiohttp.ClientPayloadError) for answer in got)
    assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


async def test_a_small_wrong_blob_is_an_honest_error(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.faults.add(Fault(kind="blob", corrupt_at=10, times=2))
    got = await mirror.blob("library/nginx", image.config.digest)
    assert got.status == 502
    assert (await mirror.blob("library/nginx", image.config.digest)).body == image.config.read()


async def test_a_small_blob_that_came_wrong_once_is_asked_for_again_at_once(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.faults.add(Fault(kind="blob", corrupt_at=10))
    assert (await mirror.blob("library/nginx", image.config.digest)).body == image.config.read()


@pytest.mark.parametrize("fault", ["cut", "short", "no ranges", "unsized", "long silence"])
async def test_an_upstream_that_breaks_off_costs_clients_a_pause_at_most(
    hub: Hub, run: Run, layer: Blob, fault: str
) -> None:
    faults = {
        "cut": [Fault(kind="blob", cut_after=1_000_000, times=3)],
        "short": [Fault(kind="blob", cut_after=SIZE - 1)],
        "no ranges": [
            Fault(kind="blob", cut_after=2_000_000),
            Fault(kind="blob", ignore_range=True),
        ],
        "unsized": [Fault(kind="blob", chunked=True)],
        "long silence": [Fault(kind="blob", stall_after=1_000_000)],
    }
    for each in faults[fault]:
        hub.faults.add(each)
    async with run(silence_timeout=0.5) as mirror:
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
        assert (await mirror.blob(REPOSITORY, layer.digest)).cache == "hit"
    if fault != "no ranges":
        assert hub.blob_bytes(layer.digest) <= 1.25 * SIZE


async def test_a_blob_is_served_only_where_it_belongs(
    hub: Hub, mirror: Mirror, layer: Blob
) -> None:
    other = make_image(8)
    hub.add(other, "library/other", "latest")
    await mirror.blob(REPOSITORY, layer.digest)
    for method in ("HEAD", "GET"):
        assert (await mirror.blob("library/other", layer.digest, method)).status == 404
    assert (await mirror.blob("library/secret", layer.digest)).status == 403
    assert (await mirror.blob(REPOSITORY, layer.digest)).status == 200


async def test_a_blob_on_its_way_is_followed_only_from_where_it_belongs(
    hub: Hub, mirror: Mirror, layer: Blob
) -> None:
    hub.add(make_image(8), "library/other", "latest")
    go = asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=SIZE // 2, until=go))
    async with mirror.request(path(layer)) as owner:
        await owner.content.readexactly(1000)
        assert (await mirror.blob("library/other", layer.digest)).status == 404
        go.set()
        await owner.read()


async def test_a_shared_layer_is_fetched_once_for_all_its_repositories(
    hub: Hub, mirror: Mirror
) -> None:
    image = make_image(11, [100_000])
    for repository in ("library/a", "team/b"):
        hub.add(image, repository, "latest")
        await mirror.pull(repository, "latest", image)
    assert [hub.bodies(blob.digest) for blob in image.blobs] == [1, 1]


async def test_a_missing_blob_is_remembered_for_a_while(
    hub: Hub, mirror: Mirror, layer: Blob
) -> None:
    missing = "sha256:" + "0" * 64
    for _ in range(3):
        got = await mirror.blob(REPOSITORY, missing)
        assert (got.status, b"BLOB_UNKNOWN" in got.body) == (404, True)
    assert hub.count(kind="blob", reference=missing, method="GET", status=404) == 1


async def test_an_upstream_that_fails_is_named_as_such(hub: Hub, run: Run, layer: Blob) -> None:
    async with run(answer_timeout=0.5) as mirror:
        hub.faults.add(Fault(kind="blob", status=503, times=None))
        assert (await mirror.blob(REPOSITORY, layer.digest)).status in (503, 504)
        hub.faults.clear()
        hub.faults.add(Fault(kind="blob", hang=True))
        assert (await mirror.blob(REPOSITORY, layer.digest)).status == 504
        hub.faults.add(Fault.page("blob", times=2))
        assert (await mirror.blob(REPOSITORY, layer.digest)).status == 502
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


async def test_the_redirect_gets_no_credentials_and_its_signature_as_it_was(
    hub: Hub, mirror: Mirror, layer: Blob
) -> None:
    await mirror.blob(REPOSITORY, layer.digest)
    [seen] = [seen for seen in hub.requests if seen.port == "cdn"]
    assert "authorization" not in seen.headers
    assert seen.status == 200


async def test_a_kept_file_that_shrank_is_fetched_again(
    hub: Hub, mirror: Mirror, layer: Blob
) -> None:
    await mirror.blob(REPOSITORY, layer.digest)
    await mirror.settled()
    file = mirror.folder.blob(layer.digest)
    file.write_bytes(b"short")
    assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
    await mirror.settled()
    file.unlink()
    assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
    assert hub.bodies(layer.digest) == 3


async def _followers(mirror: Mirror, wanted: int) -> None:
    """Wait until the fetch has this number of followers."""
    await until(lambda: mirror.daemon.fetches.followers == wanted)
