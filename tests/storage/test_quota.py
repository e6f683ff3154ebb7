"""The quota: never more than the bound, least recently used first; the books match the disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import threading
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.catalog import Catalog, charged
from mirror.storage.entry import Entry
from mirror.storage.metadata.rows import BlobRow
from mirror.storage.metadata.sqlite.database import WAL_BYTES
from mirror.storage.metadata.sqlite.store import open_sqlite
from tests.standin import Fault, Hub, Image, make_image
from tests.support.mirror import Run
from tests.support.waiting import until

MEBIBYTE = 1024 * 1024


def taken(data: Path) -> int:
    """The bytes that the files of a data folder take, in blocks."""
    sizes = {}
    for path in data.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # evicted during the walk
            status = path.stat()
            if path.is_file():  # by inode: a file that is renamed during the walk is seen twice
                sizes[status.st_ino] = charged(status.st_size)
    return sum(sizes.values())


@pytest.fixture
def images(hub: Hub) -> list[Image]:
    """Six images of two mebibytes."""
    images = [make_image(number, [2 * MEBIBYTE]) for number in range(100, 106)]
    for number, image in enumerate(images):
        hub.add(image, f"library/i{number}", "latest")
    return images


async def test_the_bound_holds_at_every_moment(
    run: Run, images: list[Image], tmp_path: Path
) -> None:
    limit = 8 * MEBIBYTE
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, taken(tmp_path / "data"))
            await asyncio.sleep(0.002)

    async with run(max_size=limit) as mirror:
        watcher = asyncio.create_task(watch())
        for _ in range(2):
            for number, image in enumerate(images):
                await mirror.pull(f"library/i{number}", "latest", image)
        watcher.cancel()
        assert mirror.stored.evicted > 0
        assert mirror.stored.used <= limit
    assert 0 < most <= limit
    assert taken(tmp_path / "data") <= limit


async def test_the_least_recently_used_goes_first(hub: Hub, run: Run, images: list[Image]) -> None:
    async with run(max_size=8 * MEBIBYTE) as mirror:
        for number in (0, 1, 2):
            await mirror.pull(f"library/i{number}", "latest", images[number])
            await mirror.pull("library/i0", "latest", images[0])  # used between all other pulls
        await mirror.pull("library/i3", "latest", images[3])
        hub.journal.clear()
        await mirror.pull("library/i0", "latest", images[0])
        assert hub.requests == []
        await mirror.pull("library/i1", "latest", images[1])
        assert hub.bodies(images[1].layers[0].digest) == 1


async def test_use_is_remembered_over_a_restart(hub: Hub, run: Run, images: list[Image]) -> None:
    async with run(max_size=8 * MEBIBYTE) as mirror:
        for number in (0, 1, 2):
            await mirror.pull(f"library/i{number}", "latest", images[number])
        for digest in mirror.stored.digests:  # as if all uses were a while ago
            mirror.stored.use_at(digest, 1_000_000)
        await mirror.stored.flush()
        await mirror.pull("library/i0", "latest", images[0])
    async with run(max_size=8 * MEBIBYTE) as mirror:
        await mirror.pull("library/i3", "latest", images[3])
        hub.journal.clear()
        await mirror.pull("library/i0", "latest", images[0])
        assert hub.requests == []


async def test_the_accounting_matches_the_disk_after_a_restart(
    run: Run, images: list[Image], tmp_path: Path
) -> None:
    async with run() as mirror:
        for number, image in enumerate(images):
            await mirror.pull(f"library/i{number}", "latest", image)
        before = mirror.stored.blob_bytes
    async with run() as mirror:
        assert mirror.stored.blob_bytes == before
        assert len(mirror.stored.digests) == 3 * len(images)
        assert mirror.stored.blob_bytes == taken(tmp_path / "data" / "blobs")
        assert taken(tmp_path / "data") <= mirror.stored.used


async def test_a_lower_bound_is_kept_from_the_start(
    run: Run, images: list[Image], tmp_path: Path
) -> None:
    async with run() as mirror:
        for number, image in enumerate(images):
            await mirror.pull(f"library/i{number}", "latest", image)
    async with run(max_size=5 * MEBIBYTE):
        assert taken(tmp_path / "data") <= 5 * MEBIBYTE


@pytest.mark.parametrize("limit", [MEBIBYTE, 0])
async def test_a_blob_larger_than_the_bound_streams_through(
    hub: Hub, run: Run, images: list[Image], tmp_path: Path, limit: int
) -> None:
    async with run(max_size=limit) as mirror:
        for _ in range(2):
            await mirror.pull("library/i0", "latest", images[0])
        layer = images[0].layers[0]
        part = await mirror.blob("library/i0", layer.digest, Range="bytes=1000-1999")
        assert part.body == layer.read()[1000:2000]
        assert hub.pulls == 1
        assert taken(tmp_path / "data") <= max(limit, 200_000)


async def test_a_wrong_byte_in_a_blob_that_streams_through_completes_no_client(
    hub: Hub, run: Run, images: list[Image]
) -> None:
    hub.faults.add(Fault(kind="blob", corrupt_at=MEBIBYTE, times=None))
    async with run(max_size=MEBIBYTE) as mirror:
        with pytest.raises(aiohttp.ClientPayloadError):
            await mirror.blob("library/i0", images[0].layers[0].digest)


async def test_a_partial_without_a_fetch_goes_before_any_blob(
    hub: Hub, run: Run, images: list[Image]
) -> None:
    layer = images[0].layers[0]
    hub.faults.add(Fault(kind="blob", stall_after=MEBIBYTE))
    path = f"/v2/library/i0/blobs/{layer.digest}"
    async with run() as mirror, mirror.request(path) as leaver:
        await leaver.content.readexactly(1000)
    async with run(max_size=7_400_000) as mirror:
        assert mirror.stored.unfinished == [layer.digest]
        for number in (1, 2, 3):
            await mirror.pull(f"library/i{number}", "latest", images[number])
        assert not mirror.stored.unfinished
        assert mirror.stored.evicted == 0


async def test_a_blob_that_is_being_read_is_not_evicted(
    hub: Hub, run: Run, images: list[Image]
) -> None:
    layer = images[0].layers[0]
    async with run(max_size=6 * MEBIBYTE) as mirror:
        await mirror.pull("library/i0", "latest", images[0])
        async with mirror.request(f"/v2/library/i0/blobs/{layer.digest}") as reader:
            await reader.content.readexactly(1000)
            for number in (1, 2, 3, 4):
                await mirror.pull(f"library/i{number}", "latest", images[number])
                assert mirror.stored.readers(layer.digest) == 1
            assert mirror.stored.evicted > 0


async def test_files_and_index_that_differ_are_reconciled_at_start(
    hub: Hub, run: Run, images: list[Image]
) -> None:
    gone, short, stranger = (Digest(images[n].layers[0].digest) for n in (0, 1, 2))
    async with run() as mirror:
        for number in (0, 1, 2):
            await mirror.pull(f"library/i{number}", "latest", images[number])
        mirror.stored.forget_row(stranger)
    mirror.folder.blob(gone).unlink()
    mirror.folder.blob(short).write_bytes(b"short")
    async with run() as mirror:
        assert not mirror.stored.has(gone)
        assert not mirror.stored.has(short)
        assert not mirror.folder.blob(short).exists()
        assert mirror.stored.has(stranger)
        for number in (0, 1, 2):
            await mirror.pull(f"library/i{number}", "latest", images[number])
    assert hub.bodies(gone) == hub.bodies(short) == 2
    assert hub.bodies(stranger) == 1


async def test_a_damaged_index_is_moved_aside_and_built_anew(
    hub: Hub, run: Run, images: list[Image], tmp_path: Path
) -> None:
    async with run() as mirror:
        await mirror.pull("library/i0", "latest", images[0])
    mirror.folder.index.write_bytes(b"this is no database" * 1000)
    async with run() as mirror:
        await mirror.pull("library/i0", "latest", images[0])
    assert hub.pulls == 1
    assert len(mirror.folder.damaged_indexes()) == 1


async def test_an_index_damaged_in_its_middle_is_built_anew(
    hub: Hub, run: Run, images: list[Image], tmp_path: Path
) -> None:
    async with run() as mirror:
        for number, image in enumerate(images):
            await mirror.pull(f"library/i{number}", "latest", image)
    path = tmp_path / "data" / "index.db"
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * (path.stat().st_size // 2))
    pulls = hub.pulls
    async with run() as mirror:
        await mirror.pull("library/i0", "latest", images[0])
    assert hub.pulls == pulls


def test_blobs_go_before_the_manifests_that_cost_a_pull() -> None:
    catalog = Catalog()
    manifest, config, layer = (Digest.of(bytes([n])) for n in range(3))
    for digest, kind in ((manifest, "manifest"), (config, None), (layer, None)):
        catalog.add(digest, Entry(5000, kind, 0))
    assert catalog.victims(4096) == [config]
    assert catalog.victims(20_000) == [config, layer, manifest]
    assert catalog.victims(100_000) is None


async def test_the_log_of_the_index_stays_within_what_is_counted_for_it(tmp_path: Path) -> None:
    index = await open_sqlite(tmp_path)
    for number in range(20_000):
        index.put_blob(BlobRow(Digest.of(str(number).encode()), number, None, number))
    await index.flush()
    assert (tmp_path / "index.db-wal").stat().st_size <= WAL_BYTES
    assert len(await index.blobs()) == 20_000
    await index.close()


@pytest.mark.parametrize("rate", [None, 4e6], ids=["ahead of the disk", "behind the disk"])
async def test_a_disk_that_fails_midway_cuts_no_clients_body(
    hub: Hub, run: Run, images: list[Image], rate: float | None
) -> None:
    layer = images[0].layers[0]
    hub.faults.add(Fault(kind="blob", rate=rate))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with run() as mirror:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MEBIBYTE, limits[1]))  # as a full disk would
        try:
            got = await asyncio.gather(*(mirror.blob("library/i0", layer.digest) for _ in range(3)))
            await mirror.settled()  # the clients have the whole blob before the disk
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert all(answer.body == layer.read() for answer in got)
        assert mirror.stored.failures > 0
        again = await mirror.blob("library/i0", layer.digest)
        assert again.body == layer.read()
        await mirror.settled()
        assert (await mirror.blob("library/i0", layer.digest)).cache == "hit"


async def test_ninety_clients_of_a_blob_that_is_not_kept_all_get_it(
    hub: Hub, run: Run, images: list[Image]
) -> None:
    layer = images[0].layers[0]
    hub.faults.add(Fault(kind="blob", rate=1e6, times=None))
    async with run(max_size=MEBIBYTE, answer_timeout=1.6) as mirror:
        got = await asyncio.gather(*(mirror.blob("library/i0", layer.digest) for _ in range(90)))
    assert all(answer.body == layer.read() for answer in got)


def test_a_manifests_word_keeps_a_child_but_gives_it_to_no_client() -> None:
    index, manifest, layer, other = (Digest.of(bytes([n])) for n in range(4))
    here, there = Repository("docker.io", "a/b"), Repository("docker.io", "c/d")
    catalog = Catalog()
    for digest in (index, manifest, layer, other):
        catalog.add(digest, Entry(5000, None, 0))
    catalog.describe(index, "index", (manifest,))
    catalog.describe(manifest, "manifest", (layer,))
    catalog.link(index, here)
    assert catalog.belongs(index, here)
    assert not catalog.belongs(layer, here)
    assert catalog.view().needs(here) == {index, manifest, layer}
    assert not catalog.view().needs(there)
    catalog.remove(manifest)
    assert catalog.view().needs(here) == {index}
    assert catalog.bytes == 3 * 8192


async def test_a_full_cache_serves_many_at_once(run: Run, images: list[Image]) -> None:
    async with run(max_size=5 * MEBIBYTE) as mirror:
        await asyncio.gather(
            *(
                mirror.pull(f"library/i{number}", "latest", image)
                for _ in range(4)
                for number, image in enumerate(images)
            )
        )
        assert mirror.stored.used <= 5 * MEBIBYTE


def test_a_layer_of_many_repositories_belongs_to_each() -> None:
    layer = Digest.of(b"layer")
    catalog = Catalog()
    catalog.add(layer, Entry(5000, None, 0))
    many = [Repository("docker.io", f"a/b{number}") for number in range(20)]
    for count, repository in enumerate(many):
        assert catalog.link(layer, repository)
        assert not catalog.link(layer, repository)
        assert sum(catalog.belongs(layer, each) for each in many) == count + 1
    for count, repository in enumerate(many):
        assert catalog.unlink(layer, repository)
        assert sum(catalog.belongs(layer, each) for each in many) == 19 - count


def test_a_repository_holds_something_until_the_last_of_it_goes() -> None:
    first, second = Digest.of(b"first"), Digest.of(b"second")
    here, there = Repository("docker.io", "a/b"), Repository("ghcr.io", "a/b")
    catalog = Catalog()
    for digest in (first, second):
        catalog.add(digest, Entry(5000, None, 0))
        catalog.link(digest, here)
    assert catalog.within(first, "docker.io")
    assert not catalog.within(first, "ghcr.io")
    assert not catalog.holds(there)
    entry = catalog.remove(first)
    assert entry is not None
    catalog.unlink(second, here)
    assert not catalog.holds(here)
    catalog.put_back(first, entry)
    assert catalog.holds(here)
    assert not catalog.within(second, "docker.io")
    assert catalog.within(second, "docker.io", alone=True)


async def test_a_part_of_a_file_system_is_one_of_what_it_has_become(
    run: Run, images: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system is grown, is unreadable for a while, which changes nothing, and is shrunk."""
    sizes: list[int | None] = [40 * MEBIBYTE]
    failed = threading.Event()

    def usage(_: Path) -> SimpleNamespace:
        if sizes[-1] is None:
            failed.set()
            raise OSError(errno.EIO, "input/output error")
        return SimpleNamespace(total=sizes[-1])

    monkeypatch.setattr("shutil.disk_usage", usage)
    monkeypatch.setattr("mirror.app.max_size.LOOK_EVERY", 0.02)
    async with run(max_size="50%") as mirror:
        stored = mirror.stored
        for number, image in enumerate(images):
            await mirror.pull(f"library/i{number}", "latest", image)
        kept = stored.used
        assert stored.max_size == 20 * MEBIBYTE
        sizes += [80 * MEBIBYTE]
        await until(lambda: stored.max_size == 40 * MEBIBYTE)
        sizes += [None]
        assert await asyncio.to_thread(failed.wait, 5)
        assert (stored.max_size, stored.used) == (40 * MEBIBYTE, kept)
        sizes += [12 * MEBIBYTE]
        await until(lambda: stored.max_size == 6 * MEBIBYTE and stored.used <= stored.max_size)
        assert taken(tmp_path / "data") <= 6 * MEBIBYTE
        await mirror.pull("library/i5", "latest", images[5])
