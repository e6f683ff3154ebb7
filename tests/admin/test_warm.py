"""Warming stores images as a client's pull does, within the bounds of pulls, room and places."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from mirror.admin.messages import (
    ImageFor,
    OrderError,
    Pinned,
    PinOrder,
    Warmed,
    WarmOrder,
    WarmPlan,
    WarmProgress,
)
from mirror.oci.digest import Digest
from tests.standin import Fault, Hub, Image, Index, make_image, make_index
from tests.standin.blobs import digest_of
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered
from tests.support.reloading import Changing, reload
from tests.support.waiting import until

NAME = "library/app"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of `run`."""
    return tmp_path / "data"


def many(hub: Hub, name: str = NAME, tag: str = "1", seed: int = 1) -> Index:
    """Have the hub hold an image for three platforms, the last of which is an attestation."""
    images = [
        make_image(f"{seed}/{arch}", [300_000, 2_000], architecture=arch)
        for arch in ("amd64", "arm64")
    ]
    attestation = make_image(f"{seed}/sbom", [100], architecture="unknown", os="unknown")
    index = make_index([*images, attestation])
    hub.add(index, name, tag)
    for image in index.images:
        hub.add(image, name)
    return index


def hold(hub: Hub, index: Index, images: Iterable[Image]) -> None:
    """Have the hub hold an index and its images."""
    hub.add(index, NAME, "1")
    for image in images:
        hub.add(image, NAME)


async def warmed(folder: Path, *images: str | ImageFor, **fields: object) -> Warmed:
    """Have images warmed; returns the result."""
    async with asyncio.timeout(20):
        records = [each async for each in ordered(folder, order(images, **fields))]
    assert isinstance(records[-1], Warmed)
    return records[-1]


def order(images: Iterable[str | ImageFor], **fields: object) -> WarmOrder:
    """Make an order."""
    return WarmOrder(images=tuple(images), **fields)  # type: ignore[arg-type]


def stored(mirror: Mirror, image: Image) -> bool:
    """Whether all of an image is stored."""
    digests = (image.digest, *(blob.digest for blob in image.blobs))
    return all(mirror.stored.has(digest) for digest in digests)


async def test_a_warmed_image_is_pulled_without_a_request_to_upstream(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    index = many(hub)
    result = await warmed(folder, "app:1", platforms=("linux/amd64",))
    [image] = result.images
    amd64, arm64, attestation = index.images
    assert (image.failure, image.digest, image.platforms) == (None, index.digest, ("linux/amd64",))
    assert (image.pulls, image.bytes) == (2, sum(blob.size for blob in amd64.blobs))
    assert stored(mirror, amd64)
    assert not stored(mirror, arm64)
    assert not stored(mirror, attestation)
    before = len(hub.requests)
    for reference, body in ((index.digest, index.manifest), (amd64.digest, amd64.manifest)):
        assert (await mirror.manifest(NAME, reference)).body == body
    assert (await mirror.manifest(NAME, "1")).cache == "hit"
    for blob in amd64.blobs:
        got = await mirror.blob(NAME, blob.digest)
        assert (got.cache, got.body) == ("hit", blob.read())
    assert len(hub.requests) == before


async def test_a_second_run_costs_nothing(hub: Hub, mirror: Mirror, folder: Path) -> None:
    many(hub)
    await warmed(folder, "app:1")
    before = hub.pulls
    result = await warmed(folder, "app:1")
    assert (result.failed, result.pulls, result.bytes) == (0, 0, 0)
    assert hub.pulls == before


async def test_the_platforms_are_those_that_clients_requested(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    first, second = many(hub), many(hub, tag="2", seed=2)
    assert (await mirror.manifest(NAME, first.digest)).status == 200
    assert (await mirror.manifest(NAME, first.images[1].digest)).status == 200
    result = await warmed(folder, "app:2")
    assert (result.platforms, result.chosen_by) == (("linux/arm64",), "clients")
    assert stored(mirror, second.images[1])
    assert not stored(mirror, second.images[0])


async def test_without_requests_the_platform_is_that_of_this_machine(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    many(hub)
    result = await warmed(folder, "app:1", dry=True)
    assert result.chosen_by == "machine"
    assert len(result.platforms) == 1


async def test_an_image_may_be_for_a_platform_that_differs_from_the_order(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    index = many(hub)
    await warmed(folder, ImageFor("app:1", "arm64"), platforms=("linux/amd64",))
    assert stored(mirror, index.images[1])
    assert not stored(mirror, index.images[0])


async def test_a_given_platform_that_is_missing_fails_the_image(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    many(hub)
    result = await warmed(folder, "app:1", platforms=("linux/amd64", "linux/riscv64"))
    assert result.images[0].failure == (
        "it is not there for linux/riscv64; it is for linux/amd64, linux/arm64"
    )


async def test_an_image_for_one_platform_is_warmed_as_it_is(
    mirror: Mirror, image: Image, folder: Path
) -> None:
    result = await warmed(folder, "nginx", platforms=("linux/arm64",))
    assert (result.failed, result.pulls) == (0, 1)
    assert stored(mirror, image)
    assert mirror.stored.repositories(image.layers[0].digest) == ["library/nginx"]


async def test_a_failure_is_reported_and_spoils_no_other_image(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    hub.make_private("library/secret")
    result = await warmed(folder, "nginx", "nothing:1", "ghcr.example/a:1", "secret:1")
    first, missing, elsewhere, secret = result.images
    assert (result.failed, first.failure) == (3, None)
    assert missing.failure
    assert secret.failure
    assert elsewhere.failure == "no upstream 'ghcr.example' here; known are docker.io"


async def test_a_run_after_a_failure_fetches_what_is_missing_only(
    hub: Hub, run: Run, image: Image, folder: Path
) -> None:
    bad, good = image.layers[1], image.layers[0]
    async with run(resume_timeout=0.1) as mirror:
        fault = hub.faults.add(
            Fault(
                kind="blob", match=lambda seen: seen.reference == bad.digest, status=500, times=None
            )
        )
        result = await warmed(folder, "nginx")
        assert result.failed == 1
        assert bad.digest[:19] in str(result.images[0].failure)
        assert mirror.stored.has(good.digest)
        hub.faults.remove(fault)
        await until(lambda: _succeeds(folder))
    assert hub.bodies(good.digest) == 1
    assert hub.pulls == 1


async def _succeeds(folder: Path) -> bool:
    return (await warmed(folder, "nginx")).failed == 0


async def test_a_client_and_a_warming_share_one_fetch(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    layer, go = image.layers[1], asyncio.Event()
    hub.faults.add(Fault(kind="blob", reference=None, stall_after=500_000, until=go))
    warming = asyncio.create_task(warmed(folder, "nginx"))
    await hub.seen(lambda seen: seen.digest == layer.digest)
    client = asyncio.create_task(mirror.blob("library/nginx", layer.digest))
    go.set()
    assert (await client).body == layer.read()
    assert (await warming).failed == 0
    assert hub.bodies(layer.digest) == 1


async def test_a_warming_leaves_places_for_the_fetches_of_clients(
    hub: Hub, run: Run, folder: Path
) -> None:
    go = asyncio.Event()
    big = make_image(9, [50_000] * 12)
    hub.add(big, "library/big", "1")
    small = make_image(10, [50_000])
    hub.add(small, "library/small", "1")
    slow = {layer.digest for layer in big.layers}
    hub.faults.add(
        Fault(
            kind="blob",
            match=lambda seen: seen.reference in slow,
            stall_after=100,
            until=go,
            times=None,
        )
    )
    async with run(max_fetches=4) as mirror:
        warming = asyncio.create_task(warmed(folder, "big:1"))
        await hub.seen(lambda seen: seen.digest in slow)
        async with asyncio.timeout(5):
            assert (await mirror.manifest("library/small", "1")).status == 200
            for blob in small.blobs:
                assert (await mirror.blob("library/small", blob.digest)).body == blob.read()
        await until(lambda: len(mirror.daemon.fetches) == 1)
        go.set()
        assert (await warming).failed == 0


async def test_all_runs_together_leave_places_for_clients(hub: Hub, run: Run, folder: Path) -> None:
    go = asyncio.Event()
    for number in range(3):
        hub.add(make_image(number, [50_000] * 4), f"library/b{number}", "1")
    async with run(max_fetches=8) as mirror:
        names = [(f"b{number}:1",) for number in range(3)]
        hub.faults.add(Fault(kind="blob", port="cdn", stall_after=100, until=go, times=None))
        runs = [asyncio.create_task(warmed(folder, *each)) for each in names]
        await hub.seen(lambda seen: seen.port == "cdn", 2)
        await hub.seen(lambda seen: seen.kind == "manifest" and seen.method == "GET", 3)
        assert len(mirror.daemon.fetches) == 2
        go.set()
        assert [result.failed for result in await asyncio.gather(*runs)] == [0, 0, 0]


async def test_an_order_ends_with_its_connection_and_its_fetches_soon_after(
    hub: Hub, run: Run, image: Image, folder: Path
) -> None:
    hub.faults.add(Fault(kind="blob", stall_after=10, times=None))
    async with run(abandon_after=0) as mirror:
        records = ordered(folder, order(["nginx"]))
        async for record in records:
            if isinstance(record, WarmProgress) and record.running and len(mirror.daemon.fetches):
                break
        await records.aclose()
        await until(lambda: mirror.daemon.fetches.followers == 0)


async def test_an_upstream_that_a_reload_removes_fails_its_image_only(
    hub: Hub, other: Hub, changing: Changing, image: Image, folder: Path
) -> None:
    go = asyncio.Event()
    changing.upstreams["ghcr.example"] = {"url": other.url}
    many(other, "org/app")
    other.faults.add(Fault(kind="manifest", method="HEAD", hang=True, until=go))
    async with changing.running() as mirror:
        run = asyncio.create_task(warmed(folder, "ghcr.example/org/app:1", "nginx"))
        await other.seen(lambda seen: seen.kind == "manifest")
        await hub.seen(lambda seen: seen.kind == "manifest")
        del changing.upstreams["ghcr.example"]
        reloading = asyncio.create_task(reload(mirror))
        await asyncio.wait([reloading], timeout=0.5)
        go.set()
        first, second = (await run).images
        assert second.failure is None
        assert first.failure is None or first.failure.isprintable()
        await reloading


# Bounds


async def test_pulls_are_left_for_clients(hub: Hub, mirror: Mirror, folder: Path) -> None:
    hub.terms.limit = 4
    many(hub), many(hub, tag="2", seed=2)
    assert (await warmed(folder, "app:1", platforms=("amd64",), leave=2)).failed == 0
    result = await warmed(folder, "app:1", "app:2", platforms=("amd64",), leave=2)
    kept, refused = result.images
    assert kept.failure is None
    assert refused.failure == ("2 pulls of docker.io are left, and it needs 2: 2 are to be left")
    assert hub.pulls == 2


async def test_images_that_do_not_fit_are_refused_before_they_evict_others(
    hub: Hub, run: Run, folder: Path
) -> None:
    for number in range(3):
        hub.add(make_image(number, [30_000_000]), f"library/b{number}", "1")
    async with run(max_size="64MiB") as mirror:
        result = await warmed(folder, "b0:1", "b1:1", "b2:1")
        assert mirror.stored.evicted == 0
    failures = [each.failure for each in result.images if each.failure]
    assert result.failed == len(failures) == 1
    assert "it does not fit" in failures[0]


async def test_pinned_content_leaves_less_room(hub: Hub, run: Run, folder: Path) -> None:
    images = [make_image(number, [15_000_000]) for number in range(4)]
    for number, image in enumerate(images):
        hub.add(image, f"library/b{number}", "1")
    async with run(max_size="64MiB") as mirror:
        await mirror.pull("library/b0", "1", images[0])
        async for record in ordered(folder, PinOrder(("b0:1",))):
            assert isinstance(record, Pinned)
            assert not record.images[0].refused
        result = await warmed(folder, "b0:1", "b1:1", "b2:1", "b3:1")
        assert result.failed == 0
        await warmed(folder, "b1:1")
        mirror.stored.age(2 * 3600)
        hub.add(make_image(9, [40_000_000]), "library/big", "1")
        assert (await warmed(folder, "big:1")).failed == 0
        assert (await warmed(folder, "big:1", "b1:1")).failed == 1
        assert mirror.stored.has(images[0].layers[0].digest)


async def test_stored_images_of_a_run_make_no_room_for_its_new_ones(
    hub: Hub, run: Run, folder: Path
) -> None:
    images = [make_image(number, [18_000_000]) for number in range(4)]
    for number, image in enumerate(images):
        hub.add(image, f"library/b{number}", "1")
    async with run(max_size="64MiB") as mirror:
        for number in (0, 1, 2):  # the first is the least recently used
            await mirror.pull(f"library/b{number}", "1", images[number])
        mirror.stored.age(2 * 3600)
        result = await warmed(folder, "b3:1", "b0:1", "b1:1")
        assert result.failed == 0
        assert not stored(mirror, images[2])
    assert all(hub.bodies(image.layers[0].digest) == 1 for image in images)


async def test_a_denied_repository_is_not_warmed(hub: Hub, run: Run, folder: Path) -> None:
    many(hub)
    upstreams = {"docker.io": {"url": hub.url, "deny": ["library/app"]}}
    async with run(upstreams=upstreams):
        result = await warmed(folder, "app:1")
    assert "does not serve library/app" in str(result.images[0].failure)
    assert not hub.requests


@pytest.mark.parametrize(("private", "failed"), [("authenticated", 0), ("nobody", 1)])
async def test_private_content_is_warmed_if_clients_may_have_it(
    hub: Hub, run: Run, image: Image, folder: Path, private: str, failed: int
) -> None:
    hub.terms.users["robot"] = "pass-word"
    hub.make_private("library/nginx", "robot")
    account = {"url": hub.url, "username": "robot", "password": "pass-word", "private": private}
    async with run(upstreams={"docker.io": account}) as mirror:
        result = await warmed(folder, "nginx")
        assert result.failed == failed, result
        assert (await mirror.manifest("library/nginx", "latest")).status == 403


async def test_an_image_that_stays_as_it_was_is_a_failure(
    hub: Hub, run: Run, image: Image, folder: Path
) -> None:
    async with run(tag_ttl=0, stale_after=0.1) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        await hub.down("registry")
        result = await warmed(folder, "nginx")
    assert result.images[0].failure == "it is stored as it was before: upstream could not be asked"


# Dry runs


async def test_a_dry_run_tells_the_cost_and_spends_nothing(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    index = many(hub)
    result = await warmed(folder, "nginx", "app:1", "nginx:latest", platforms=("amd64",), dry=True)
    assert [(each.pulls, each.bytes, each.unknown) for each in result.images] == [
        (1, 0, True),
        (2, 0, True),
        (0, 0, True),
    ]
    assert (hub.pulls, mirror.stored.digests) == (0, [])
    assert (await mirror.manifest("library/nginx", "latest")).status == 200
    assert (await mirror.manifest(NAME, index.digest)).status == 200
    result = await warmed(folder, "nginx", "app:1", platforms=("amd64",), dry=True)
    assert [(each.pulls, each.bytes, each.unknown) for each in result.images] == [
        (0, sum(blob.size for blob in image.blobs), False),
        (1, 0, True),
    ]
    assert hub.pulls == 2


@pytest.mark.parametrize(
    "fields",
    [{"images": ["A B"]}, {"images": ["sha256:" + "a" * 64]}, {"platforms": ("a b",)}],
)
async def test_an_order_that_cannot_be_read_is_refused_in_one_line(
    mirror: Mirror, folder: Path, fields: dict[str, object]
) -> None:
    given = {"images": ["nginx"]} | fields
    with pytest.raises(OrderError) as refusal:
        await warmed(folder, *given.pop("images"), **given)  # type: ignore[misc]
    assert str(refusal.value).isprintable()


async def test_the_order_begins_with_its_plan_and_tells_its_progress(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    many(hub)
    records = [each async for each in ordered(folder, order(["app:1"]))]
    assert isinstance(records[0], WarmPlan)
    last = [each for each in records if isinstance(each, WarmProgress)][-1]
    assert (last.images, last.all_images, last.failed, last.running) == (1, 1, 0, ())


async def test_hostile_indexes_fail_their_image_only(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    platform = {"os": ["linux"], "architecture": {"a": 1}}
    entries = [
        {"digest": image.digest, "size": "x", "platform": platform, "mediaType": 7},
        {"digest": str(Digest("sha256:" + "a" * 64)), "platform": {"os": "\x1b[2J"}},
    ]
    body = json.dumps({"schemaVersion": 2, "mediaType": many(hub).media_type, "manifests": entries})
    hub.faults.add(
        Fault(kind="manifest", repository="library/app", body=body.encode(), times=None, status=200)
    )
    result = await warmed(folder, "app:1", "nginx")
    assert [each.failure is None for each in result.images] == [False, True]
    assert str(result.images[0].failure).isprintable()


async def test_an_index_spends_one_pull_for_a_platform(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    images = [make_image(f"alike/{number}", [10]) for number in range(70)]
    hold(hub, make_index(images), images)
    result = await warmed(folder, "app:1", platforms=("linux/amd64",))
    assert (result.images[0].failure, result.pulls, hub.pulls) == (None, 2, 2)
    assert stored(mirror, images[0])


async def test_an_index_for_versions_of_windows_brings_the_first_few(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    images = [make_image(f"version/{number}", [10], os="windows") for number in range(9)]
    hold(hub, make_index(images), images)
    result = await warmed(folder, "app:1", platforms=("windows/amd64",))
    assert (result.failed, result.pulls) == (0, 5)


async def test_an_image_of_too_many_manifests_fails_before_it_spends_pulls(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    names = [f"a{number}" for number in range(20)]
    images = [
        make_image(f"{name}/{number}", [10], architecture=name, os="windows")
        for name in names
        for number in range(4)
    ]
    hold(hub, make_index(images), images)
    result = await warmed(folder, "app:1", platforms=tuple(f"windows/{name}" for name in names))
    assert result.images[0].failure == "it has more than 64 manifests for these platforms"
    assert hub.pulls == 1


async def test_an_image_of_too_many_blobs_fails_before_it_fetches_them(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    layers = [{"digest": f"sha256:{number:064x}", "size": 1} for number in range(5000)]
    body = json.dumps({"schemaVersion": 2, "mediaType": image.media_type, "layers": layers})
    hub.add(image, NAME, "1")
    hub.faults.add(
        Fault(kind="manifest", repository=NAME, body=body.encode(), times=None, status=200)
    )
    result = await warmed(folder, "app:1")
    assert result.images[0].failure == "it has more than 4096 blobs"
    assert not [seen for seen in hub.requests if seen.kind == "blob"]


async def test_pulls_are_left_where_heads_do_not_decide(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    hub.terms.limit = 3
    many(hub)
    hub.faults.add(Fault(kind="manifest", method="HEAD", status=405, times=None))
    first = await warmed(folder, "nginx", leave=2)
    assert (first.failed, first.pulls, hub.pulls) == (0, 1, 1)
    second = await warmed(folder, "app:1", leave=2)
    assert second.images[0].failure == (
        "2 pulls of docker.io are left, and it needs 1: 2 are to be left"
    )
    assert (second.pulls, hub.pulls) == (0, 1)


async def test_orders_that_come_at_once_are_bounded_too(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    hub.faults.add(Fault(kind="manifest", hang=True, times=None))
    orders = [ordered(folder, order(["nginx"])) for _ in range(12)]
    try:
        async with asyncio.timeout(20):
            first = await asyncio.gather(*map(anext, orders), return_exceptions=True)
        assert sum(isinstance(each, WarmPlan) for each in first) == 8
        assert sum(isinstance(each, OrderError) for each in first) == 4
    finally:
        for each in orders:
            await each.aclose()


async def test_a_dry_run_reckons_stored_indexes_within_indexes(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    inner = many(hub, tag="inner")
    outer = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": inner.media_type,
            "manifests": [
                {"mediaType": inner.media_type, "digest": inner.digest, "size": len(inner.manifest)}
            ],
        }
    ).encode()
    hub.add(Index(outer, inner.media_type, digest_of(outer), (inner.images[0],)), NAME, "1")
    for reference in ("1", inner.digest, inner.images[0].digest):
        assert (await mirror.manifest(NAME, reference)).status == 200
    result = await warmed(folder, "app:1", platforms=("amd64",), dry=True)
    [image] = result.images
    assert (image.pulls, image.unknown) == (0, False)
    assert image.bytes == sum(blob.size for blob in inner.images[0].blobs)
