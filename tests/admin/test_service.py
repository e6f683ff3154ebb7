"""Maintenance removes the right content, keeps shared content, and leaves the accounting right."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mirror.admin.messages import (
    Collected,
    DamagedBlob,
    DuOrder,
    GcOrder,
    OrderError,
    Progress,
    Purged,
    PurgeOrder,
    Record,
    Usage,
    Verified,
    VerifyOrder,
    Work,
)
from mirror.oci.digest import Digest
from tests.standin import Fault, Hub, Image, make_image, make_index
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered
from tests.support.waiting import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of `run`."""
    return tmp_path / "data"


async def told(folder: Path, order: Work) -> list[Record]:
    """Have an order carried out; returns all its records."""
    return [record async for record in ordered(folder, order)]


async def purged(folder: Path, target: str) -> Purged:
    """Purge a target; returns the record of it."""
    [record] = await told(folder, PurgeOrder(target))
    assert isinstance(record, Purged)
    return record


async def usage(folder: Path) -> Usage:
    """Measure the folder; fails unless the sizes add up."""
    [record] = await told(folder, DuOrder())
    assert isinstance(record, Usage)
    assert record.used == sum(
        (
            record.kept,
            record.partial,
            record.promised,
            record.index,
            record.leaving,
            record.quarantine,
        )
    )
    alone = sum(repository.alone for repository in record.repositories)
    assert record.kept == alone + record.shared + record.unclaimed
    return record


@pytest.mark.parametrize(
    "target",
    [
        "",
        "A",
        "a:",
        "a:..",
        "../../etc/passwd",
        "nginx@sha256:12",
        "nginx:1@sha256:" + "a" * 64,
        "sha256:" + "A" * 64,
        "a" * 300,
        "a\nb",
        "never-pulled",
        "nginx:2",
        "nginx@sha256:" + "b" * 64,
        "e\x1bvil.example/x",
        "ghcr.io/a:1",
        "sha256:" + "a" * 64,
    ],
)
async def test_a_name_of_nothing_that_is_kept_is_refused_in_one_line(
    mirror: Mirror, image: Image, folder: Path, target: str
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    with pytest.raises(OrderError) as refusal:
        await told(folder, PurgeOrder(target))
    [line] = str(refusal.value).splitlines()
    assert line.isprintable()
    assert "nothing of" in line or "invalid" in line
    assert len(mirror.stored.digests) == 4


@pytest.mark.parametrize(
    "target",
    [
        "nginx:latest",
        "library/nginx:latest",
        "index.docker.io/library/nginx:latest",
        "nginx",
        "docker.io/nginx",
        "nginx@{}",
    ],
)
async def test_an_image_is_named_as_docker_names_it(
    mirror: Mirror, image: Image, folder: Path, target: str
) -> None:
    await mirror.pull("library/nginx", "latest", image)
    gone = await purged(folder, target.format(image.digest))
    assert (gone.tags, gone.files, gone.shared) == (1, 4, 0)
    after = await usage(folder)
    assert (after.kept, after.repositories) == (0, ())
    assert not [path for path in (folder / "blobs").rglob("*") if path.is_file()]
    await mirror.pull("library/nginx", "latest", image)  # no content is lost


async def test_an_image_of_many_platforms_goes_whole_and_a_second_tag_keeps_it(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    images = [
        make_image(number, [1000], architecture=arch) for number, arch in ((1, "a"), (2, "b"))
    ]
    for image in images:
        hub.add(image, "library/x")
    index = make_index(images)
    hub.add(index, "library/x", "1", "latest")
    for tag in ("1", "latest"):
        assert (await mirror.manifest("library/x", tag)).body == index.manifest
    for image in images:
        assert (await mirror.manifest("library/x", image.digest)).body == image.manifest
        for blob in image.blobs:
            assert (await mirror.blob("library/x", blob.digest)).status == 200
    await mirror.settled()
    [repository] = (await usage(folder)).repositories
    assert [image.reference for image in repository.images] == ["1", "latest"]
    assert [image.alone for image in repository.images] == [0, 0]
    first = await purged(folder, "x:1")
    assert (first.tags, first.files, first.shared, first.freed) == (1, 0, 7, 0)
    second = await purged(folder, "x:latest")
    assert (second.tags, second.files, second.shared) == (1, 7, 0)
    assert (await usage(folder)).kept == 0


async def test_what_two_repositories_hold_stays_for_the_other(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    hub.add(image, "library/other", "1")
    await mirror.pull("library/nginx", "latest", image)
    await mirror.pull("library/other", "1", image)
    before = await usage(folder)
    assert before.shared == before.kept
    gone = await purged(folder, "nginx")
    assert (gone.tags, gone.files, gone.shared) == (1, 0, 4)
    [repository] = (await usage(folder)).repositories
    assert (repository.repository, repository.alone) == ("docker.io/library/other", before.kept)
    assert (await purged(folder, "other:1")).files == 4


async def test_a_purge_outlives_a_restart(run: Run, hub: Hub, image: Image, folder: Path) -> None:
    hub.add(image, "library/other", "1")
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        await mirror.pull("library/other", "1", image)
        await purged(folder, "nginx")
        before = await usage(folder)
    assert (await usage(folder)).repositories == before.repositories


async def test_a_purged_blob_is_counted_until_its_last_reader_ends(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    image = make_image(5, [20_000_000])
    hub.add(image, "library/big", "1")
    await mirror.pull("library/big", "1", image)
    layer = image.layers[0]
    async with mirror.request(f"/v2/library/big/blobs/{layer.digest}") as reader:
        await reader.content.readexactly(1000)
        await purged(folder, "big")
        assert (await usage(folder)).leaving > layer.size
        assert await reader.content.read() == layer.read()[1000:]
    await until(lambda: nothing_leaves(folder))


async def nothing_leaves(folder: Path) -> bool:
    """Whether no removed file is still being read."""
    return not (await usage(folder)).leaving


async def test_gc_leaves_a_running_fetch_its_partial(
    hub: Hub, mirror: Mirror, image: Image, folder: Path
) -> None:
    go = asyncio.Event()
    layer = image.layers[1]
    hub.faults.add(Fault(kind="blob", stall_after=500_000, until=go))
    body = asyncio.create_task(mirror.blob("library/nginx", layer.digest))
    await hub.seen(lambda seen: seen.digest == layer.digest)
    assert await told(folder, GcOrder()) == [Collected(0, 0, 0, 0, 0)]
    go.set()
    assert (await body).body == layer.read()
    await mirror.settled()
    assert (await mirror.blob("library/nginx", layer.digest)).cache == "hit"


async def test_verify_spares_what_came_anew_while_it_read(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    image = make_image(6, [8_000_000])
    hub.add(image, "library/big", "1")
    await mirror.pull("library/big", "1", image)
    layer = Digest(image.layers[0].digest)
    path = mirror.folder.blob(layer)
    with path.open("r+b") as file:
        file.write(b"wrong")
    wrong = []
    async for record in ordered(folder, VerifyOrder(rate=8_000_000)):
        if isinstance(record, Progress) and record.bytes > 1_000_000 and hub.bodies(layer) == 1:
            await purged(folder, layer)
            assert (await mirror.blob("library/big", layer)).status == 200
            await mirror.settled()
        if isinstance(record, DamagedBlob):
            wrong.append(record)
    assert isinstance(record, Verified)
    assert not wrong
    assert (await mirror.blob("library/big", layer)).cache == "hit"
