"""A cache of 100,000 blobs, of which nothing that is asked of the mirror holds the event loop."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from mirror.admin.json_lines import order_line, read_record, record_line
from mirror.admin.messages import (
    DuOrder,
    GcOrder,
    ImageUsage,
    LsOrder,
    PinOrder,
    PurgeOrder,
    RepositoryUsage,
    ShowOrder,
    Usage,
    VerifyOrder,
    Work,
)
from mirror.admin.operations.image_pages import ImagePages
from mirror.admin.socket_path import SOCKET
from mirror.content.manifests.tags import Tags
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.catalog import charged
from mirror.storage.entry import Entry
from mirror.storage.metadata.sqlite.store import open_sqlite
from mirror.storage.startup import open_store
from tests.attacks.steps import MOST, Longest, steps
from tests.attacks.test_graphs import fill
from tests.support.folder import DataFolder
from tests.support.memory_metadata import MemoryMetadata
from tests.support.mirror import Mirror, Run
from tests.support.pace import at_most
from tests.support.stored import Stored

MANY = 100_000
SHARED = [Repository("docker.io", f"library/shared{number}") for number in range(200)]


def share(stored: Stored) -> None:
    """Link each blob to three more repositories."""
    for number, digest in enumerate(stored.digests):
        for each in range(3):
            stored.link(digest, SHARED[(number + each * 13) % len(SHARED)])


@pytest.fixture
def large(mirror: Mirror) -> Mirror:
    """A mirror of 100,000 blobs, without their files, each in several repositories."""
    fill(mirror)
    share(mirror.stored)
    assert len(mirror.stored.digests) == MANY
    return mirror


def give_files(mirror: Mirror) -> None:
    """Let all that is on the books be on the disk, with other bytes."""
    for digest in mirror.stored.digests:
        path = mirror.folder.blob(digest)
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
        path.write_bytes(bytes(100))


async def order(folder: Path, order: Work) -> Longest:
    """Have an order carried out by the daemon; its answer is another process's to understand."""
    connector = aiohttp.UnixConnector(str(folder / SOCKET))
    async with aiohttp.ClientSession(connector=connector) as session:
        with steps() as longest:
            async with session.post("http://mirror/orders", data=order_line(order)) as answer:
                last = b""
                async for data in answer.content.iter_any():
                    last = data
    assert last.endswith(b"}\n")
    assert b'"kind": "refused"' not in last
    return longest


@pytest.mark.parametrize("path", ["usage?limit=1000", "images?limit=1000", "images?sort=bytes"])
async def test_an_answer_of_the_api_does_not_hold_the_loop(large: Mirror, path: str) -> None:
    with steps() as longest:
        for encoding in ("identity", "gzip"):
            got = await large.ask(f"/api/v1/{path}", Accept_Encoding=encoding)
            assert got.status == 200
    assert longest.seconds < MOST, longest.what


@pytest.mark.parametrize(
    "target",
    ["library/many1", "library/shared3", f"library/many1@sha256:{1:064x}", f"sha256:{1:064x}"],
)
async def test_a_purge_does_not_hold_the_loop(large: Mirror, tmp_path: Path, target: str) -> None:
    longest = await order(tmp_path / "data", PurgeOrder(target))
    assert longest.seconds < MOST, longest.what


async def test_a_dry_purge_of_100000_blobs_is_measured_beside_the_loop(
    mirror: Mirror, tmp_path: Path
) -> None:
    catalog, only = mirror.daemon.store.catalog, Repository("docker.io", "library/only")
    for number in range(MANY):
        digest = Digest(f"sha256:{number:064x}")
        catalog.add(digest, Entry(100, None, 0, 0))
        catalog.link(digest, only)
    longest = await order(tmp_path / "data", PurgeOrder("library/only", dry=True))
    assert longest.seconds < MOST, longest.what


async def test_the_usage_of_100000_blobs_is_told_in_pieces(large: Mirror, tmp_path: Path) -> None:
    longest = await order(tmp_path / "data", DuOrder())
    assert longest.seconds < MOST, longest.what


@pytest.mark.parametrize(
    "asked",
    [
        LsOrder(limit=100),
        LsOrder("*many7*", limit=100),
        LsOrder(limit=100, after="docker.io/library/many5:x"),
        LsOrder(sort="bytes", limit=100),
        ShowOrder("library/many1"),
        ShowOrder(f"library/many1@sha256:{1:064x}"),
        LsOrder(),
        LsOrder("*many*:*", sort="bytes", limit=100),
        PinOrder((f"library/many1@sha256:{1:064x}",)),
    ],
    ids=lambda asked: str(asked)[:20],
)
async def test_a_list_of_100000_blobs_is_made_beside_the_loop(
    large: Mirror, tmp_path: Path, asked: LsOrder | ShowOrder | PinOrder
) -> None:
    longest = await order(tmp_path / "data", asked)
    page = isinstance(asked, LsOrder) and asked.sort == "name" and asked.limit is not None
    assert longest.seconds < (MOST / 2 if page else MOST), longest.what


async def test_a_page_of_names_costs_little_among_100000_blobs(large: Mirror) -> None:
    tags = Tags(MemoryMetadata(), 60, 60)
    pages = ImagePages(large.daemon.store.catalog, tags, frozenset(), LsOrder(limit=100))
    with at_most(0.2):
        page, _ = pages.by_name(tags.known(), None)
    assert (len(page.images), page.total) == (100, 4 * MANY // 10)
    assert page.images[0].bytes == 10 * 4096


async def test_a_few_blobs_to_be_verified_are_chosen_beside_the_loop(
    large: Mirror, tmp_path: Path
) -> None:
    longest = await order(tmp_path / "data", VerifyOrder(count=3))
    assert longest.seconds < MOST / 2, longest.what


async def test_gc_of_100000_blobs_does_not_hold_the_loop(large: Mirror, tmp_path: Path) -> None:
    give_files(large)
    longest = await order(tmp_path / "data", GcOrder())
    assert longest.seconds < MOST, longest.what


def test_a_record_is_told_in_pieces_and_read_again_as_it_was() -> None:
    images = tuple(ImageUsage(f"v{n}", f"sha256:{n:064x}", n, n) for n in range(10_000))
    rows = (
        RepositoryUsage("docker.io/library/ä", 1, 2, images),
        RepositoryUsage("docker.io/library/none", 0, 0, ()),
        *(RepositoryUsage(f"docker.io/library/{n}", n, 0, images[:1]) for n in range(10_000)),
    )
    usage = Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, rows)
    pieces = list(record_line(usage))
    assert max(map(len, pieces)) < 64 * 1024
    line = b"".join(pieces)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert read_record(line) == usage


async def test_many_that_go_for_one_go_some_at_a_time(large: Mirror) -> None:
    """64 MiB, of which each file takes 4 KiB."""
    stored = large.stored
    limit = stored.max_size = stored.used + 1024**2
    with steps() as longest:
        promised = await stored.reserve(64 * 1024**2, gains="docker.io")
    assert longest.seconds < MOST / 2, longest.what
    assert promised == 64 * 1024**2
    assert stored.used <= limit
    due = 64 * 1024**2 // charged(100)
    assert due <= stored.evicted <= due + 256  # the index may grow by a mebibyte meanwhile
    stored.release(promised)


async def test_a_stop_writes_down_what_was_used_some_at_a_time(run: Run) -> None:
    running = run()
    mirror = await running.__aenter__()
    fill(mirror)
    for digest in mirror.stored.digests[: MANY // 2]:
        mirror.stored.touch(digest)
    with steps() as longest:
        await running.__aexit__(None, None, None)
    assert longest.seconds < MOST / 2, longest.what


def test_to_choose_from_a_repository_costs_what_is_kept_of_it(large: Mirror) -> None:
    """A request for private content causes another question, about stored content."""
    catalog = large.daemon.store.catalog
    one, two = list(catalog)[-2:]
    few = Repository("docker.io", "library/few")
    for digest in (one, two):
        catalog.link(digest, few)
    with at_most(100 * MOST / 50):
        for _ in range(100):
            assert catalog.any_of(few, but=one) == two
            assert catalog.any_of(SHARED[0]) is not None
    catalog.remove(two)
    assert catalog.any_of(few, but=one) is None
    assert catalog.unlink(one, few)
    assert not catalog.holds(few)


def damage(folder: Path) -> None:
    """Overwrite the index, which is in use."""
    for path in folder.glob("index.db*"):
        path.write_bytes(b"\xff" * path.stat().st_size)


async def test_an_index_that_is_lost_is_told_everything_again_some_at_a_time(
    tmp_path: Path,
) -> None:
    store = await open_store(tmp_path, 1 << 40, open_filesystem, open_sqlite)
    many = 10_000
    digests = [Digest(f"sha256:{number:064x}") for number in range(many)]
    for number, digest in enumerate(digests):
        store.catalog.add(digest, Entry(1, None, 0))
        for each in range(3):
            store.catalog.link(digest, SHARED[(number + each) % len(SHARED)])
    damage(tmp_path)
    store.index.touch(digests[0], 1)
    try:
        with steps() as longest:
            await store.index.flush()
    finally:
        await store.close()
    assert longest.seconds < MOST / 2, longest.what
    folder = DataFolder(tmp_path)
    assert (folder.count("blob"), folder.count("link")) == (many, 3 * many)
