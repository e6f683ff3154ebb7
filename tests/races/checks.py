"""The checks: while a daemon runs, when it is idle, and when it has ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from os import DirEntry, scandir
from pathlib import Path

from mirror.content.blobs.fetch_pool import FetchPool
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.catalog import charged
from mirror.storage.metadata.sqlite.database import WAL_BYTES
from mirror.storage.store import Store
from tests.races.life import Life
from tests.races.world import World
from tests.support.folder import DataFolder

Found = Iterator[tuple[str, str]]  # a kind of fault, and its place


def _files(folder: str) -> Iterator[DirEntry[str]]:
    try:
        with scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry
    except FileNotFoundError:
        return


def held(folder: Path) -> int:
    """Return the bytes of a data folder, in blocks; the index's log counts as at its largest."""
    total = WAL_BYTES
    for entry in _files(str(folder)):
        try:
            size = entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
        total += charged(max(0, size - WAL_BYTES) if entry.name.endswith("-wal") else size)
    return total


def kept(folder: Path) -> dict[str, Path]:
    """Return the kept files, by digest."""
    paths = (Path(entry.path) for entry in _files(str(folder / "blobs")))
    return {f"{path.parent.parent.name}:{path.name}": path for path in paths}


def at_rest(life: Life, folder: Path, world: World) -> Found:
    """Check an idle daemon: accounting, files and memory agree."""
    store, catalog = life.part(Store), life.part(Store).catalog
    known = {str(each): entry for each in catalog if (entry := catalog.get(each))}
    files = {digest: path.stat().st_size for digest, path in kept(folder).items()}
    gone = {digest for digest in known.keys() - files.keys() if digest not in world.altered}
    yield from (("kept, says the books, and gone", digest) for digest in gone)
    yield from (("a file that the books lack", digest) for digest in files.keys() - known.keys())
    partials = {
        Path(entry.path).name.replace("-", ":", 1): entry.stat().st_size
        for entry in _files(str(folder / "partial"))
    }
    idle = {str(digest): size for digest, size in store.accounting.idle_partials.items()}
    if partials != idle:
        yield "partials differ from the books", f"{partials} and {idle}"
    pinned = [each for each in catalog if catalog.is_pinned(each)]
    sizes = sum(charged(entry.size) for each in pinned if (entry := catalog.get(each)))
    if sizes != catalog.pinned_bytes or sizes > catalog.most_pinned:
        yield "wrong pinned bytes", f"{sizes}, {catalog!r}, {store.pins!r}"
    needed = store.pins.held()
    yield from (("pinned for no image", str(each)) for each in pinned if each not in needed)
    if store.accounting.promised:
        yield "room is promised to nobody", f"{store.accounting.promised} bytes"
    if len(life.part(FetchPool)):
        yield "a fetch goes on for nobody", f"{life.part(FetchPool)!r}"
    for digest, entry in known.items():
        if entry.readers:
            yield "a reader is left", f"{digest}: {entry.readers}"
        for link in entry.links:
            if (link, Digest(digest)) not in world.granted:
                yield "a link that upstream never said yes to", f"{link} {digest}"


def quarantined(folder: Path) -> Found:
    """Check that each quarantined file is wrong."""
    for entry in _files(str(folder / "quarantine")):
        name = entry.name.replace("-", ":", 1)
        if Digest(name).proves(Path(entry.path).read_bytes()):
            yield "quarantined, and right", name


def after_the_end(folder: Path, world: World) -> Found:
    """Check the disk before the next start: files, rows, links and the ledger agree."""
    for entry in _files(str(folder)):
        if "damaged" in entry.name:
            yield "an index thrown away", entry.name
    with DataFolder(folder).database() as database:
        try:
            rows = dict(database.execute("SELECT digest_text(digest), size FROM blob").fetchall())
            links = database.execute(
                "SELECT digest_text(digest), upstream, repository FROM named_link"
            ).fetchall()
            [pulls] = database.execute("SELECT count(*) FROM pull").fetchone()
        except sqlite3.Error as error:
            yield "an index that cannot be read", str(error)
            return
    yield from _described(folder, world, rows, {digest for digest, *_ in links})
    files = kept(folder)
    for digest in rows.keys() - files.keys():
        if Digest(digest) not in world.altered:
            yield "a row without its file", digest
    for digest, upstream, repository in links:
        if (Repository(upstream, repository), Digest(digest)) not in world.granted:
            yield "a link that upstream never said yes to", f"{upstream} {repository} {digest}"
    if pulls != len(world.counted):
        yield "pulls that the ledger lacks", f"{pulls} of {len(world.counted)}"


def _described(folder: Path, world: World, rows: dict[str, int], linked: set[str]) -> Found:
    """Check that every kept file is right, has a row, and is linked to a repository."""
    for digest, path in kept(folder).items():
        right = Digest(digest).proves(path.read_bytes())
        if not right and Digest(digest) not in world.altered:
            yield "a kept file that is wrong", digest
        if digest not in rows:
            yield "a file without a row", digest
        elif right and digest not in linked and not world.disowned:
            yield "a file without a link", digest
