"""The index through cancellation, locks and second signals: no pending row is lost."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.errors import StoreError
from mirror.storage.metadata.protocol import (
    MetadataDamaged,
    MetadataError,
    MetadataStore,
    RowRefused,
)
from mirror.storage.metadata.rows import AccountKey, BlobRow, LinkRow, PullRow
from mirror.storage.metadata.sqlite import migrations
from mirror.storage.metadata.sqlite.errors import translated
from mirror.storage.metadata.sqlite.store import open_sqlite
from mirror.storage.startup import open_store
from tests.standin import Hub, Image, make_image
from tests.support.command import fetch, serving
from tests.support.folder import DataFolder
from tests.support.mirror import Run
from tests.support.waiting import until

HUB = AccountKey("docker.io", "")
REPOSITORY = Repository("docker.io", "library/some")
LINKS = 150  # more than two transactions


def pull(number: int) -> PullRow:
    """A row of the ledger."""
    return PullRow(1, number, HUB, 1_700_000_000 + number, "library/some", "v1", "", "me")


async def filled(data: Path) -> MetadataStore:
    """An index with pending pulls and links."""
    index = await open_sqlite(data)
    for number in range(1, 8):
        index.add_pull(pull(number))
    for number in range(LINKS):
        digest = Digest.of(b"%d" % number)
        index.put_blob(BlobRow(digest, number, None, 0))
        index.put_link(LinkRow(digest, REPOSITORY))
    return index


def whole(data: Path) -> bool:
    """Whether all pulls and links are on the disk, in the same file."""
    return (
        DataFolder(data).count("pull"),
        DataFolder(data).count("link"),
        [*data.glob("*damaged*")],
    ) == (7, LINKS, [])


@pytest.mark.parametrize("waits", range(12))
async def test_a_close_that_is_cancelled_waits_for_the_flush_that_runs(
    tmp_path: Path, waits: int
) -> None:
    """The second signal cancels the close while the keeper's flush is between two slices."""
    index = await filled(tmp_path)
    flushing = asyncio.create_task(index.flush())
    for _ in range(waits):
        await asyncio.sleep(0)
    closing_task = asyncio.create_task(index.close())
    await asyncio.sleep(0)
    closing_task.cancel()
    with suppress(asyncio.CancelledError):
        await closing_task
    await asyncio.wait([flushing], timeout=10)
    assert whole(tmp_path)


async def test_a_close_that_is_cancelled_while_the_index_is_held_loses_nothing(
    tmp_path: Path,
) -> None:
    index = await filled(tmp_path)
    with DataFolder(tmp_path).held():
        flushing = asyncio.create_task(index.flush())
        await asyncio.sleep(0.05)  # the flush is in BEGIN, on SQLite's thread
        closing_task = asyncio.create_task(index.close())
        for _ in range(3):
            await asyncio.sleep(0)
            closing_task.cancel()
        await asyncio.sleep(0.05)
    with suppress(asyncio.CancelledError):
        await closing_task
    await asyncio.wait([flushing], timeout=10)
    assert whole(tmp_path)


async def test_a_flush_that_is_cancelled_leaves_no_transaction_behind(tmp_path: Path) -> None:
    for waits in range(40):
        data = tmp_path / str(waits)
        data.mkdir()
        index = await filled(data)
        flushing = asyncio.create_task(index.flush())
        for _ in range(waits):
            await asyncio.sleep(0.0005)
        flushing.cancel()
        with suppress(asyncio.CancelledError):
            await flushing
        await index.close()
        assert whole(data), waits


async def test_a_prune_that_is_cancelled_leaves_no_transaction_behind(tmp_path: Path) -> None:
    index = await filled(tmp_path)
    await index.flush()
    with DataFolder(tmp_path).held():
        pruning = asyncio.create_task(index.prune(1_700_000_000, keep=10**6, words=10**6))
        await asyncio.sleep(0.05)
        pruning.cancel()
        await asyncio.sleep(0.05)
    with suppress(asyncio.CancelledError):
        await pruning
    index.add_pull(pull(8))
    await index.close()
    assert DataFolder(tmp_path).count("pull") == 8


async def test_only_what_sqlite_says_of_the_file_is_damage(tmp_path: Path) -> None:
    index = await filled(tmp_path)
    await index.close()
    with closing(sqlite3.connect(DataFolder(tmp_path).index)) as other:
        with pytest.raises(RowRefused), translated():
            other.execute("INSERT INTO blob (digest) VALUES (NULL)")
        other.close()
        with pytest.raises(MetadataError) as closed, translated():
            other.execute("SELECT 1")
    assert type(closed.value) is MetadataError  # for the mirror's misuse of a closed connection
    (tmp_path / "no.db").write_bytes(b"this is no database" * 1000)
    with (
        closing(sqlite3.connect(tmp_path / "no.db")) as other,
        pytest.raises(MetadataDamaged),
        translated(),
    ):
        other.execute("SELECT * FROM sqlite_schema")


async def test_damage_that_is_named_in_no_utf8_is_replaced_at_start(tmp_path: Path) -> None:
    """SQLite repeats the damaged name of a table in its message, which Python cannot decode."""
    index = await filled(tmp_path)
    await index.close()
    file = DataFolder(tmp_path).index
    sound = file.read_bytes()
    damaged = sound.replace(b"tabletagtag", b"tablet\xffgtag").replace(b"TABLE tag", b"TABBE tag")
    assert damaged != sound
    file.write_bytes(damaged)
    index = await open_sqlite(tmp_path)
    index.add_pull(pull(1))
    await index.close()
    assert DataFolder(tmp_path).count("pull") == 1
    assert DataFolder(tmp_path).damaged_indexes()


async def test_an_index_with_text_that_is_not_utf8_is_replaced_at_start(tmp_path: Path) -> None:
    """SQLite's own check takes any bytes for text: only reading the rows shows the damage."""
    index = await filled(tmp_path)
    await index.close()
    file = DataFolder(tmp_path).index
    file.write_bytes(file.read_bytes().replace(b"library/some", b"library/som\xff"))
    store = await open_store(tmp_path, 10**9, open_filesystem, open_sqlite)
    await store.close()
    assert DataFolder(tmp_path).count("link") == 0
    assert DataFolder(tmp_path).damaged_indexes()


async def test_a_row_that_cannot_be_written_keeps_no_other_from_the_disk(tmp_path: Path) -> None:
    index = await open_sqlite(tmp_path)
    index.add_pull(pull(1))
    index.put_blob(BlobRow(Digest.of(b"a"), 10**30, None, 0))  # too large for SQLite's integers
    index.put_blob(BlobRow(Digest.of(b"b"), 10, "\udcff", 0))  # not UTF-8
    index.put_blob(BlobRow(Digest.of(b"c"), 10, None, 0))
    await index.flush()
    assert (DataFolder(tmp_path).count("pull"), DataFolder(tmp_path).count("blob")) == (1, 1)
    assert index.pending == 0
    await index.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_loses_nothing_though_another_holds_the_index(
    hub: Hub, tmp_path: Path, number: signal.Signals
) -> None:
    images = [make_image(each) for each in range(20, 24)]
    for image in images:
        hub.add(image, "library/some", f"v{image.digest[-6:]}")
    data = tmp_path / "data"
    async with serving(data, "--upstream", f"docker.io={hub.url}") as command:
        url = await command.address()
        await fetch(f"{url}/v2/library/some/manifests/{images[0].digest}")
        with DataFolder(data).held():
            for image in images:
                for blob in image.layers:
                    assert (await fetch(f"{url}/v2/library/some/blobs/{blob.digest}"))[0] == 200
            asking = [
                asyncio.create_task(fetch(f"{url}/v2/library/some/manifests/{image.digest}"))
                for image in images
            ]
            await asyncio.wait(asking, timeout=3)
            command.send(number)
            await asyncio.sleep(0.3)
            command.send(number)
            await asyncio.sleep(0.3)
        ended = await command.ended(within=15)
    assert ended.code == 0
    assert "Traceback" not in ended.err
    blobs = {blob.digest for image in images for blob in image.layers}
    assert DataFolder(data).count("pull") == len(images)
    assert DataFolder(data).count("link") == len(images) + len(blobs)


async def test_a_pull_is_in_the_ledger_before_its_client_has_the_answer(
    run: Run, image: Image, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with run() as mirror:
        with DataFolder(data).held():
            asking = asyncio.create_task(mirror.manifest("library/nginx", image.digest))
            path = mirror.folder.blob(image.digest)
            await until(path.exists)
            assert not asking.done()
        assert (await asking).status == 200
        assert DataFolder(data).count("pull") == 1


async def test_an_index_that_another_holds_for_long_keeps_no_client_waiting(
    run: Run, image: Image, tmp_path: Path
) -> None:
    async with run() as mirror:
        with mirror.folder.held():
            async with asyncio.timeout(3):
                assert (await mirror.manifest("library/nginx", image.digest)).status == 200


async def test_moved_pulls_are_not_moved_again_with_a_write_that_failed(
    tmp_path: Path,
) -> None:
    """One row is refused for good, another one fails for now: all others are written."""
    index = await open_sqlite(tmp_path)
    index.add_pull(pull(1))
    await index.flush()
    with DataFolder(tmp_path).database() as other:
        other.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON blob WHEN new.size = 77 "
            "BEGIN SELECT abs(-9223372036854775807 - 1); END"  # an error, not a refusal
        )
    index.move_pulls(1, 3600)
    index.add_pull(pull(2))
    index.put_blob(BlobRow(Digest.of(b"a"), 10**30, None, 0))  # too large for SQLite's integers
    index.put_blob(BlobRow(Digest.of(b"b"), 77, None, 0))
    for _ in range(2):
        await index.flush()
    with DataFolder(tmp_path).database() as other:
        other.execute("DROP TRIGGER broken")
    assert DataFolder(tmp_path).count("blob") == 0
    await index.close()
    assert DataFolder(tmp_path).count("blob") == 1
    with DataFolder(tmp_path).database() as other:
        times = other.execute("SELECT at FROM pull ORDER BY id").fetchall()
    assert times == [(pull(1).at + 3600,), (pull(2).at,)]


@pytest.mark.parametrize(("after", "reported"), [(5, [True, False]), (9, [True, True])])
async def test_the_ledger_of_the_schema_before_the_numbers_is_upgraded(
    tmp_path: Path, after: int, reported: list[bool]
) -> None:
    """The next pull follows the limit even if the pull that the limit names was deleted."""
    with closing(sqlite3.connect(tmp_path / "index.db")) as old:
        old.executescript(f"{';'.join(migrations.scripts()[:7])}; PRAGMA user_version=7;")
        for number in (5, 6):
            values = (number, "docker.io", "", 1_700_000_000, "a/b", "v1", "", "old")
            old.execute("INSERT INTO pull VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        limit = ("docker.io", "", 100, 40, 21_600, "", 1_700_000_000, after)
        old.execute("INSERT INTO pull_limit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", limit)
        old.commit()
    index = await open_sqlite(tmp_path)
    for _ in range(2):  # the second time repeats the write
        index.add_pull(pull(5))
        await index.flush()
    index.move_pulls(1, 60)
    await index.flush()
    entries = await index.pulls(0)
    await index.close()
    assert [row.reported for row in entries] == [*reported, False]
    assert [row.client for row in entries] == ["old", "old", "me"]
    assert [row.at - 1_700_000_000 for row in entries] == [0, 0, 65]


async def test_an_index_that_cannot_be_moved_aside_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def damaged() -> None:
        raise MetadataDamaged("malformed")

    async def open_damaged(folder: Path) -> MetadataStore:
        index = await open_sqlite(folder)
        monkeypatch.setattr(index, "blobs", damaged)
        return index

    def refuse(_: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("mirror.storage.metadata.sqlite.file._move_aside", refuse)
    with pytest.raises(StoreError, match="Read-only file system"):
        await open_store(tmp_path, 10**8, open_filesystem, open_damaged)


async def test_no_garbage_is_collected_while_a_start_reads_all_rows(tmp_path: Path) -> None:
    paused = list[bool]()

    async def open_index(folder: Path) -> MetadataStore:
        paused.append(not gc.isenabled())
        return await open_sqlite(folder)

    store = await open_store(tmp_path, 10**8, open_filesystem, open_index)
    await store.close()
    assert paused == [True]
    assert gc.isenabled()
