"""Crashes: after a kill at any point and a restart, no wrong byte is served and no blob is lost."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import aiohttp
import pytest

from mirror.oci.digest import Digest
from mirror.storage.blobs.files import BlobFiles
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.catalog import charged
from mirror.storage.metadata.sqlite import migrations
from mirror.storage.metadata.sqlite.store import open_sqlite
from mirror.storage.startup import open_store
from tests.standin import Blob, Fault, Hub, Image, make_image
from tests.support.command import SMALL, Command, fetch, serving
from tests.support.folder import DataFolder
from tests.support.waiting import until

REPOSITORY = "library/big"
SIZE = 4_000_000
TAGS_AND_LINKS = "SELECT (SELECT count(*) FROM tag), (SELECT count(*) FROM link)"
MEBIBYTE = 1024 * 1024


def upstream(hub: Hub) -> tuple[str, str]:
    """Return the flags for a mirror of the hub."""
    return "--upstream", f"docker.io={hub.url}"


@pytest.fixture
def layer(hub: Hub) -> Blob:
    """A layer of some megabytes that the hub has in `library/big`."""
    image = make_image(7, [SIZE])
    hub.add(image, REPOSITORY, "latest")
    return image.layers[0]


async def killed(command: Command) -> None:
    """Kill the daemon, as a power cut would."""
    command.send(signal.SIGKILL)
    await command.ended()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
async def test_bytes_fetched_before_a_kill_are_not_fetched_again(
    hub: Hub, tmp_path: Path, layer: Blob, share: float
) -> None:
    """A client had those bytes, and the mirror was idle: the bytes are on the disk."""
    at = int(layer.size * share)
    hub.faults.add(Fault(kind="blob", stall_after=at))
    partial = tmp_path / "data" / "partial" / layer.digest.replace(":", "-")
    async with serving(tmp_path / "data", *upstream(hub)) as command:
        url = f"{await command.address()}/v2/{REPOSITORY}/blobs/{layer.digest}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            await response.content.readexactly(at - 50_000)
            await until(lambda: partial.stat().st_size >= at)
            await killed(command)
    async with serving(tmp_path / "data", *upstream(hub)) as command:
        url = f"{await command.address()}/v2/{REPOSITORY}/blobs/{layer.digest}"
        assert await fetch(url) == (200, layer.read())
    assert hub.blob_bytes(layer.digest) <= layer.size * 1.05
    assert [seen.range for seen in hub.requests if seen.port == "cdn"][-1] == f"bytes={at}-"


async def test_a_file_of_a_manifest_that_a_kill_left_is_removed(hub: Hub, tmp_path: Path) -> None:
    left = tmp_path / "data" / "partial" / "whole-abc"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of a manif")
    async with serving(tmp_path / "data", *upstream(hub)) as command:
        await command.address()
        assert not left.exists()


async def test_rows_of_content_that_is_gone_leave_the_index(tmp_path: Path) -> None:
    stray, child = Digest.of(b"stray"), Digest.of(b"child")
    with DataFolder(tmp_path).database() as database:
        database.executescript(f"{';'.join(migrations.scripts()[:10])}; PRAGMA user_version=10;")
        database.execute("INSERT INTO link VALUES (?, 'docker.io', 'library/x')", (stray,))
        database.execute("INSERT INTO child VALUES (?, ?)", (stray, child))
    store = await open_store(tmp_path, MEBIBYTE, open_filesystem, open_sqlite)
    await store.close()
    with DataFolder(tmp_path).database() as database:
        for table in ("link", "child"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


@pytest.mark.parametrize("seed", range(6))
async def test_after_a_kill_no_wrong_byte_is_served_and_accounting_is_right(
    hub: Hub, tmp_path: Path, seed: int
) -> None:
    """Pulls fetch, wait and evict; the mirror is killed after so many bytes, four times."""
    chance = random.Random(seed)
    limit = 6 * MEBIBYTE
    images = [make_image(f"{seed} {number}", [MEBIBYTE, 200_000]) for number in range(8)]
    for number, image in enumerate(images):
        hub.add(image, f"library/i{number}", "latest")
    hub.faults.add(Fault(kind="blob", rate=8e6, times=None))
    options = (*upstream(hub), "--max-size", str(limit))
    data = tmp_path / "data"
    for _ in range(4):
        async with serving(data, *options, command=SMALL) as command:
            url = await command.address(within=30)
            demand = Tally(chance.randrange(8 * MEBIBYTE), asyncio.Event())
            order = chance.sample(range(8), 8)
            pulls = [
                asyncio.create_task(pull(url, f"library/i{number}", images[number], demand))
                for number in order
            ]
            done = asyncio.gather(*pulls)
            done.add_done_callback(demand.over)
            await demand.enough.wait()
            await killed(command)
            await done
        assert held(data) <= limit
    await the_books_are_right(data, limit)
    hub.faults.clear()
    async with serving(data, *options, command=SMALL) as command:
        url = await command.address()
        for number, image in enumerate(images):
            assert await pull(url, f"library/i{number}", image, Tally(0, asyncio.Event()))
    await the_books_are_right(data, limit)


class Tally:
    """Counts the bytes that clients have received, and sets `enough` once they are `most`."""

    def __init__(self, most: int, enough: asyncio.Event) -> None:
        self._left = most
        self.enough = enough

    def over(self, _: object) -> None:
        """Set `enough` in any case, as no more bytes will come."""
        self.enough.set()

    def add(self, count: int) -> None:
        """Count received bytes."""
        self._left -= count
        if self._left <= 0:
            self.enough.set()


async def pull(url: str, repository: str, image: Image, demand: Tally) -> bool:
    """Pull an image; returns whether all of it came. Each document or blob that came is right."""
    base = f"{url}/v2/{repository}"
    wanted = [(f"{base}/manifests/latest", image.manifest)]
    wanted += [(f"{base}/blobs/{blob.digest}", blob.read()) for blob in image.blobs]
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for address, content in wanted:
            body = b""
            try:
                async with session.get(address) as response:
                    async for piece in response.content.iter_any():
                        body += piece
                        demand.add(len(piece))
            except aiohttp.ClientError:
                return False
            assert (response.status, body == content) == (200, True)
    return True


def held(data: Path) -> int:
    """The bytes that the files of a data folder take, in blocks."""
    return sum(charged(path.stat().st_size) for path in data.rglob("*") if path.is_file())


async def the_books_are_right(data: Path, limit: int) -> None:
    """Check that files, catalogue and index agree, and that each file matches its digest."""
    store = await open_store(data, limit, open_filesystem, open_sqlite)
    try:
        found = {each.digest: each.size for each in BlobFiles(store.root).scan()}
        known = {digest: store.catalog.get(digest) for digest in store.catalog}
        assert found == {digest: entry.size for digest, entry in known.items() if entry}
        for digest, size in found.items():
            assert BlobFiles(store.root).prove(digest, size) is not None
        partials = {each.digest: each.size for each in BlobFiles(store.root).scan_partials()}
        assert partials == store.accounting.idle_partials
        assert not partials.keys() & found.keys()
        assert held(data) <= store.accounting.used <= limit
    finally:
        await store.close()
    with DataFolder(data).database() as database:
        rows = dict(database.execute("SELECT digest_text(digest), size FROM blob").fetchall())
        links = {row[0] for row in database.execute("SELECT digest_text(digest) FROM named_link")}
        parents = {
            row[0]
            for row in database.execute(
                "SELECT digest_text(blob.digest) FROM child JOIN blob ON blob.id = child.manifest"
            )
        }
    assert rows == found
    assert links <= rows.keys()
    assert parents <= rows.keys()
    names = {path.name for path in (data / "partial").iterdir()}
    assert not any(name.startswith("whole-") for name in names)


async def test_killed_and_started_without_its_upstream_it_serves_all_it_has(
    hub: Hub, tmp_path: Path, layer: Blob
) -> None:
    image = make_image(8, [300_000])
    hub.add(image, "library/small", "latest")
    data = tmp_path / "data"
    async with serving(data, *upstream(hub)) as command:
        url = await command.address()
        assert await pull(url, "library/small", image, Tally(0, asyncio.Event()))
        kept = (1, 1 + len(image.blobs))  # a client has its last bytes before the disk has
        with DataFolder(data).database() as database:
            await until(lambda: database.execute(TAGS_AND_LINKS).fetchone() == kept)
        await killed(command)
    await hub.down()
    async with serving(data, *upstream(hub), "--tag-ttl", "0") as command:
        url = await command.address()
        assert await pull(url, "library/small", image, Tally(0, asyncio.Event()))
    await hub.up()
