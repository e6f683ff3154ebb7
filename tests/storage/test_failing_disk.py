"""The disk fails: files altered behind the mirror's back, a lost index, no room; pulls go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.storage.blobs.files import BlobFiles
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.catalog import charged
from mirror.storage.entry import Entry
from mirror.storage.errors import StorageError
from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.metadata.sqlite.store import open_sqlite
from mirror.storage.quarantine import Quarantine, Suspect
from mirror.storage.startup import open_store
from tests.standin import Hub, Image, make_image
from tests.support.mirror import Mirror, Run
from tests.support.waiting import until

REPOSITORY = "library/nginx"
MEBIBYTE = 1024 * 1024


def cut(path: Path) -> None:
    """Truncate the file by its last bytes."""
    os.truncate(path, path.stat().st_size - 10)


def lengthen(path: Path) -> None:
    """Append bytes to the file."""
    with path.open("ab") as file:
        file.write(b"more")


def alter(path: Path) -> None:
    """Change one byte in the middle of the file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        [byte] = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


DAMAGE = pytest.mark.parametrize("damage", [Path.unlink, cut, lengthen, alter])


@DAMAGE
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
async def test_a_blob_that_was_altered_is_found_quarantined_and_fetched_again(
    hub: Hub, run: Run, image: Image, damage: Callable[[Path], None], restarted: bool
) -> None:
    layer = image.layers[1]
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        path = mirror.folder.blob(layer.digest)
        if not restarted:
            damage(path)
            await _served_again(mirror, image)
    if restarted:
        damage(path)
        async with run() as mirror:
            await _served_again(mirror, image)
    assert hub.bodies(layer.digest) == 2
    assert mirror.folder.quarantined(layer.digest).exists() == (damage is not Path.unlink)


async def _served_again(mirror: Mirror, image: Image) -> None:
    layer = image.layers[1]
    got = await asyncio.gather(*(mirror.blob(REPOSITORY, layer.digest) for _ in range(5)))
    assert all(answer.body == layer.read() for answer in got)
    await mirror.settled()
    assert (await mirror.blob(REPOSITORY, layer.digest)).cache == "hit"
    assert mirror.stored.failures <= 1


@DAMAGE
async def test_a_manifest_or_config_that_was_altered_is_found_and_fetched_again(
    hub: Hub, run: Run, image: Image, damage: Callable[[Path], None]
) -> None:
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        paths = [mirror.folder.blob(digest) for digest in (image.digest, image.config.digest)]
    for path in paths:
        damage(path)
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
    assert hub.bodies(image.config.digest) == 2
    assert hub.pulls == 2


async def test_a_file_that_was_only_touched_is_hashed_once_and_stays(
    hub: Hub, run: Run, image: Image
) -> None:
    layer = image.layers[1]
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        path = mirror.folder.blob(layer.digest)
        os.utime(path, ns=(1, 1))
        assert (await mirror.blob(REPOSITORY, layer.digest)).cache == "hit"
        assert mirror.stored.changed_at(layer.digest) == 1
        await mirror.stored.flush()
    async with run() as mirror:
        assert mirror.stored.changed_at(layer.digest) == 1
    assert hub.bodies(layer.digest) == 1


async def test_an_altered_file_that_no_row_knows_is_found_too(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    layer = image.layers[1]
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        alter(mirror.folder.blob(layer.digest))
    mirror.folder.index.unlink()
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
    assert hub.bodies(layer.digest) == 2
    assert hub.bodies(image.layers[0].digest) == 1
    assert hub.pulls == 1


async def test_a_blob_that_cannot_be_read_is_quarantined(hub: Hub, run: Run, image: Image) -> None:
    layer = image.layers[1]
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        path = mirror.folder.blob(layer.digest)
        path.unlink()
        path.mkdir()  # reading a folder fails as reading a bad sector does
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
        await mirror.settled()
        assert path.is_file()
    assert hub.bodies(layer.digest) == 2


def test_the_quarantine_is_small_and_short() -> None:
    old, large, new = (Digest.of(bytes([n])) for n in range(3))
    quarantine = Quarantine(max_size=20 * MEBIBYTE)  # may hold one mebibyte
    for digest, size, since in ((old, 5000, 0), (large, MEBIBYTE, 700_000), (new, 5000, 700_000)):
        quarantine.add(digest, Suspect(size, since))
    assert quarantine.bytes == 2 * 8192 + MEBIBYTE
    assert quarantine.overdue(now=700_000) == [old, large]
    assert quarantine.to_free(1) == [old]
    quarantine.remove(large)
    quarantine.remove(old)
    assert quarantine.overdue(now=700_000) == []
    assert quarantine.bytes == 8192


async def test_the_quarantine_counts_and_goes_first(hub: Hub, run: Run, tmp_path: Path) -> None:
    images = [make_image(number, [2 * MEBIBYTE, 200_000]) for number in range(200, 204)]
    for number, image in enumerate(images):
        hub.add(image, f"library/i{number}", "latest")
    async with run(max_size=8 * MEBIBYTE) as mirror:
        stored = mirror.stored
        await mirror.pull("library/i0", "latest", images[0])
        alter(mirror.folder.blob(images[0].layers[1].digest))
        before = stored.used
        await mirror.pull("library/i0", "latest", images[0])
        assert stored.quarantined == 1
        assert stored.used >= before + charged(200_000)
    async with run(max_size=8 * MEBIBYTE) as mirror:
        stored = mirror.stored
        assert stored.quarantined == 1
        await mirror.pull("library/i1", "latest", images[1])
        await mirror.pull("library/i2", "latest", images[2])
        assert stored.evicted == 0
        await mirror.pull("library/i3", "latest", images[3])
        assert stored.quarantined == 0
        assert mirror.folder.quarantine() == []


async def test_an_index_deleted_while_it_runs_is_written_anew(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    other = make_image(300, [100_000])
    hub.add(other, "library/other", "latest")
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        await mirror.stored.flush()
        mirror.folder.lose_index()
        await mirror.pull("library/other", "latest", other)
    await _all_known_without_asking(hub, run, image, other)


async def test_an_index_damaged_while_it_runs_is_told_everything_again(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    other = make_image(300, [100_000])
    hub.add(other, "library/other", "latest")
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        await mirror.stored.flush()
        for path in mirror.folder.index_files():
            with path.open("r+b") as file:
                file.write(b"\xff" * path.stat().st_size)
        await mirror.pull("library/other", "latest", other)
        await until(lambda: bool(mirror.folder.damaged_indexes()))
    await _all_known_without_asking(hub, run, image, other)


async def _all_known_without_asking(hub: Hub, run: Run, image: Image, other: Image) -> None:
    """Check that links, tags and the ledger are known after a restart with upstream down."""
    await hub.down()
    async with run(tag_ttl=3600) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        await mirror.pull("library/other", "latest", other)
        metrics = (await mirror.ask("/metrics")).body.decode()
        assert 'mirror_pull_used{account="",upstream="docker.io"} 2.0' in metrics
    await hub.up()


async def test_an_index_that_another_holds_is_caught_up_with(
    run: Run, image: Image, tmp_path: Path
) -> None:
    async with run() as mirror:
        with mirror.folder.held():
            await mirror.pull(REPOSITORY, "latest", image)
            assert (await mirror.ask("/readyz")).status == 200
            assert mirror.folder.count("blob") == 0
        await until(lambda: mirror.stored.unwritten == 0)
        await mirror.stored.flush()
        assert mirror.folder.count("blob") == 4
        assert mirror.folder.count("pull") == 1


async def test_an_index_of_the_first_schema_is_migrated(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    hub.terms.limit = 100
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
    folder = mirror.folder
    counted = "id, upstream, account, at, repository, reference, digest, client"
    said = "upstream, account, allowed, remaining, window_length, source, at"
    with folder.database() as new:
        rows = {"tag": new.execute("SELECT * FROM tag").fetchall()}
        links = "SELECT digest_text(digest), upstream, repository FROM named_link"
        rows["link"] = new.execute(links).fetchall()
        children = """SELECT digest_text(blob.digest), digest_text(child.digest)
            FROM child JOIN blob ON blob.id = child.manifest"""
        rows["child"] = new.execute(children).fetchall()
        rows["pull"] = new.execute(f"SELECT {counted} FROM pull").fetchall()
        rows["pull_limit"] = new.execute(f"SELECT {said} FROM pull_limit").fetchall()
        blobs = "SELECT digest_text(digest), size, media_type, used_at FROM blob"
        rows["blob"] = new.execute(blobs).fetchall()
    folder.index.unlink()
    first = (resources.files("mirror.storage.metadata.sqlite") / "schema" / "0001.sql").read_text(
        "utf-8"
    )
    with folder.database() as old:
        old.executescript(f"{first}; PRAGMA user_version=1;")
        for name, kept in rows.items():
            for row in kept:
                old.execute(f"INSERT INTO {name} VALUES ({','.join('?' * len(row))})", row)
    await hub.down()
    async with run(tag_ttl=3600) as mirror:
        assert len(mirror.stored.digests) == 4
        await mirror.pull(REPOSITORY, "latest", image)
        assert mirror.stored.changed_at(image.layers[1].digest) is not None
        metrics = (await mirror.ask("/metrics")).body.decode()
    assert 'mirror_pull_remaining{account="",upstream="docker.io"} 99.0' in metrics
    await hub.up()


async def test_what_the_disk_will_not_remove_stays_in_the_accounting(tmp_path: Path) -> None:
    store = await open_store(tmp_path, 8 * MEBIBYTE, open_filesystem, open_sqlite)
    digest = Digest.of(b"blob")
    path = BlobFiles(store.root).path(digest)
    path.mkdir(parents=True)  # unlinking a folder fails
    store.catalog.add(digest, Entry(4 * MEBIBYTE, None, 0))
    used = store.accounting.used
    with pytest.raises(StorageError, match=r"(?i)is a directory|not permitted"):
        await store.quota.reserve(5 * MEBIBYTE)
    assert store.accounting.used == used
    assert store.catalog.get(digest) is not None
    assert store.accounting.evicted == 0
    path.rmdir()
    store.quota.release(await store.quota.reserve(5 * MEBIBYTE))
    assert store.catalog.get(digest) is None
    assert store.accounting.evicted == 1
    await store.close()


async def test_only_the_last_damaged_index_is_kept(tmp_path: Path) -> None:
    (tmp_path / "index.damaged-1").write_bytes(b"old")
    (tmp_path / "index.db").write_bytes(b"this is no database" * 1000)
    index: MetadataStore = await open_sqlite(tmp_path)
    await index.close()
    asides = await asyncio.to_thread(lambda: list(tmp_path.glob("index.damaged-*")))
    assert [path.name != "index.damaged-1" for path in asides] == [True]


async def test_a_wrong_file_is_quarantined_although_the_folder_was_removed(
    run: Run, image: Image, tmp_path: Path
) -> None:
    layer = image.layers[1]
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        stored = mirror.stored
        (tmp_path / "data" / "quarantine").rmdir()
        alter(mirror.folder.blob(layer.digest))
        used = stored.used
        await stored.discard(layer.digest)
        assert not mirror.folder.blob(layer.digest).exists()
        assert (stored.quarantined, stored.used) == (1, used)


async def test_a_wrong_file_that_cannot_be_moved_is_out_of_use_until_it_can(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    layer = image.layers[1]
    quarantine = tmp_path / "data" / "quarantine"
    async with run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        stored = mirror.stored
        quarantine.rmdir()
        quarantine.touch()  # no file can be moved into a file
        path = mirror.folder.blob(layer.digest)
        alter(path)
        used = stored.used
        await stored.discard(layer.digest)
        assert path.exists()
        assert not stored.has(layer.digest)
        assert stored.used == used
        quarantine.unlink()
        quarantine.mkdir()
        await until(lambda: stored.quarantined == 1)
        assert not path.exists()
        assert stored.used == used
        await mirror.pull(REPOSITORY, "latest", image)
    assert hub.bodies(layer.digest) == 2
