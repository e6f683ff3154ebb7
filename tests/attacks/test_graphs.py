"""Manifests that point at too much, too deeply, or at each other in too many ways."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mirror.admin.messages import Collected, DuOrder, GcOrder, Purged, PurgeOrder, Record, Usage
from mirror.oci import manifest, media
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.catalog import Catalog
from mirror.storage.entry import Entry
from tests.attacks.steps import MOST, steps
from tests.attacks.test_documents import push
from tests.standin import Hub, Image
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered
from tests.support.pace import at_most

NAME = "library/nginx"
REPOSITORY = Repository("docker.io", NAME)
LEVELS, WIDTH = 14, 6


def index_of(children: list[str], note: str = "") -> bytes:
    """Write an index of these."""
    items = [{"mediaType": media.OCI_INDEX, "digest": child, "size": 1} for child in children]
    document = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": items}
    return json.dumps(document | {"annotations": {"n": note}}).encode()


async def told(folder: Path, kind: PurgeOrder | DuOrder | GcOrder) -> Record:
    """Have an order carried out; returns the one thing that is told."""
    async with asyncio.timeout(20):
        [record] = [record async for record in ordered(folder, kind)]
    return record


async def test_what_can_be_reached_in_a_billion_ways_is_walked_once(
    hub: Hub, mirror: Mirror, image: Image, tmp_path: Path
) -> None:
    """14 levels of 6 indexes, each naming all of the level below: six to the fourteenth ways."""
    await mirror.pull(NAME, "latest", image)
    below: list[str] = [image.digest]
    for level in range(LEVELS):
        below = [
            push(hub, index_of(below, f"{level} {number}"), media.OCI_INDEX)
            for number in range(WIDTH)
        ]
        for digest in below:
            assert (await mirror.manifest(NAME, digest)).status == 200
    record = await told(tmp_path / "data", DuOrder())
    assert isinstance(record, Usage)
    record = await told(tmp_path / "data", PurgeOrder(f"{NAME}:latest"))
    assert isinstance(record, Purged)
    assert (record.tags, record.files) == (1, 0)  # the indexes need all of it
    record = await told(tmp_path / "data", PurgeOrder(f"{NAME}@{below[0]}"))
    assert isinstance(record, Purged)
    assert record.files == 1
    record = await told(tmp_path / "data", PurgeOrder(NAME))
    assert isinstance(record, Purged)
    assert len(mirror.stored.digests) == 0


async def test_a_chain_of_indexes_of_any_length_is_measured_and_purged(
    hub: Hub, mirror: Mirror, tmp_path: Path
) -> None:
    digest = push(hub, index_of([]), media.OCI_INDEX)
    for _ in range(1300):
        assert (await mirror.manifest(NAME, digest)).status == 200
        digest = push(hub, index_of([digest]), media.OCI_INDEX)
    record = await told(tmp_path / "data", DuOrder())
    assert isinstance(record, Usage)
    record = await told(tmp_path / "data", PurgeOrder(NAME))
    assert isinstance(record, Purged)
    assert record.files == 1300


async def test_an_index_of_too_many_children_is_passed_on_and_not_walked(
    hub: Hub, run: Run, tmp_path: Path
) -> None:
    """A client without a mirror gets it, too; but its children cost other clients nothing."""
    body = index_of([f"sha256:{number:064x}" for number in range(20_000)])
    digest = push(hub, body, media.OCI_INDEX)
    most = index_of([f"sha256:{number:064x}" for number in range(manifest.MOST_CHILDREN)])
    largest = push(hub, most, media.OCI_INDEX)
    async with run() as mirror:
        for pushed, data in ((digest, body), (largest, most)):
            got = await mirror.manifest(NAME, pushed)
            assert (got.status, got.body) == (200, data)
    assert hub.pulls == 2
    async with run() as mirror:
        counts = [len(mirror.stored.children(each)) for each in (digest, largest)]
        assert counts == [0, manifest.MOST_CHILDREN]
        assert (await mirror.manifest(NAME, digest)).body == body
        record = await told(tmp_path / "data", PurgeOrder(f"{NAME}@{digest}"))
        assert isinstance(record, Purged)
        assert record.files == 1
    assert hub.pulls == 2


def test_the_children_of_all_manifests_are_bounded_largest_first() -> None:
    catalog, total, unknown = Catalog(), 0, set[int]()
    for number in range(2500):
        count = 10 if number % 5 == 0 else manifest.MOST_CHILDREN
        digest = Digest.of(b"%d" % number)
        catalog.add(digest, Entry(1, None, 0))
        catalog.describe(digest, media.OCI_INDEX, (digest,) * count)
        entry = catalog.get(digest)
        assert entry is not None
        total += len(entry.children)
        if not entry.children:
            unknown.add(count)
    assert total <= 1_000_000
    assert unknown == {manifest.MOST_CHILDREN}
    for digest in list(catalog):
        catalog.remove(digest)
    catalog.add(digest, Entry(1, None, 0))
    catalog.describe(digest, media.OCI_INDEX, (digest,) * manifest.MOST_CHILDREN)
    assert len(getattr(catalog.get(digest), "children", ())) == manifest.MOST_CHILDREN


def test_manifests_that_share_children_are_added_and_removed_cheaply() -> None:
    """Sixty of 4,096 that share them all took 0.3 s each to be removed."""
    catalog = Catalog()
    children = tuple(Digest(f"sha256:{number:064x}") for number in range(manifest.MOST_CHILDREN))
    parents = [Digest.of(b"%d" % number) for number in range(60)]
    with at_most(60 * manifest.MOST_CHILDREN * 1e-7):
        for digest in parents:
            catalog.add(digest, Entry(1, None, 0))
            catalog.describe(digest, media.OCI_INDEX, children)
        for digest in parents:
            catalog.remove(digest)


def fill(mirror: Mirror) -> None:
    """Enter 10,000 images of nine layers, without their files."""
    names = [Repository("docker.io", f"library/many{number}") for number in range(100)]
    for number in range(10_000):
        digest = Digest(f"sha256:{number:064x}")
        layers = tuple(Digest(f"sha256:{10**9 + number * 9 + each:064x}") for each in range(9))
        for each in layers:
            mirror.stored.enter(each, names[number % 100], size=100)
        mirror.stored.enter(
            digest,
            names[number % 100],
            size=100,
            media_type=media.OCI_MANIFEST,
            children=layers,
        )


@pytest.mark.parametrize(
    "order",
    [
        DuOrder(),
        PurgeOrder("library/many1"),
        PurgeOrder(f"library/many1@sha256:{1:064x}"),
        PurgeOrder(f"sha256:{1:064x}"),
        PurgeOrder("nginx"),
    ],
    ids=lambda order: getattr(order, "target", order.kind)[:30],
)
async def test_no_upkeep_of_100000_blobs_holds_the_loop(
    mirror: Mirror, image: Image, tmp_path: Path, order: PurgeOrder | DuOrder
) -> None:
    await mirror.pull(NAME, "latest", image)
    fill(mirror)
    with steps() as longest:
        await told(tmp_path / "data", order)
    assert longest.seconds < MOST, longest.what


async def test_what_a_client_brings_back_while_gc_looks_is_not_discarded(
    hub: Hub, mirror: Mirror, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files are gone; the client fetches the second while the first is discarded."""
    await mirror.pull(NAME, "latest", image)
    store, layers = mirror.daemon.store, image.layers
    for layer in layers:
        mirror.folder.blob(layer.digest).unlink()
    discard = store.discard
    refetched = asyncio.Event()

    async def discard_slowly(digest: Digest) -> None:
        await discard(digest)
        if not refetched.is_set():
            refetched.set()
            for layer in layers:
                assert (await mirror.blob(NAME, layer.digest)).body == layer.read()
            await mirror.settled()

    monkeypatch.setattr(store.leftovers, "_discard", discard_slowly)
    record = await told(tmp_path / "data", GcOrder())
    assert isinstance(record, Collected)
    assert refetched.is_set()
    for layer in layers:
        assert mirror.folder.blob(layer.digest).exists()
        assert mirror.stored.has(layer.digest)
