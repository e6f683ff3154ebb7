"""Start: bring the books into step with the disk, which is the truth. No file is read."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from itertools import groupby

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.catalogue import Catalogue, Entry
from mirror.store.errors import StoreError
from mirror.store.files import Files
from mirror.store.index import Index, open_index, replace_index
from mirror.store.sqlite import Row, is_damage
from mirror.store.store import Store

_log = logging.getLogger(__name__)


async def open_store(files: Files, limit: int) -> Store:
    """Open the data folder and repair its index; raises StoreError.

    A file without a row is adopted, as a blob that no repository holds yet; a row without a file,
    or with another size, is dropped; partials stay for whoever asks for them next.
    """
    await asyncio.to_thread(files.prepare)
    path = files.root / "index.db"
    index = await open_index(path)
    try:
        return await _repair(files, index, limit)
    except sqlite3.Error as error:
        await index.close()  # an open index would keep the process alive
        if not is_damage(error):
            raise StoreError(f"cannot read the index {path}: {error}") from None
        index = await replace_index(path, error)
    except OSError as error:
        await index.close()
        raise StoreError(f"cannot read the data folder {files.root}: {error}") from None
    try:
        return await _repair(files, index, limit)
    except BaseException:
        await index.close()
        raise


async def _repair(files: Files, index: Index, limit: int) -> Store:
    on_disk = {digest: (size, at) for digest, size, at in files.scan()}
    rows = await index.blobs()
    altered = _altered(rows, on_disk)
    catalogue = _known(files, index, on_disk, rows)
    adopted = _adopt(index, catalogue, on_disk)
    await _relate(index, catalogue)
    store = Store(files, index, catalogue, limit)
    store.altered = altered
    store.idle_partials.update(
        (digest, size) for digest, size, _ in sorted(files.scan_partials(), key=lambda p: p[2])
    )
    await store.trim()
    _log.info("%r, %d adopted", store, adopted)
    return store


def _altered(rows: list[Row], on_disk: dict[Digest, tuple[int, int]]) -> list[Digest]:
    """Return what has another size than its row.

    A file that is gone tells nothing: a crash may have come between its eviction and its row's.
    """
    sizes = {Digest(text): size for text, size, *_ in rows}
    return [d for d, (size, _) in on_disk.items() if sizes.get(d, size) != size]


def _known(
    files: Files, index: Index, on_disk: dict[Digest, tuple[int, int]], rows: list[Row]
) -> Catalogue:
    """Enter the rows that have their file, least recently used first."""
    catalogue = Catalogue()
    altered: list[Digest] = []
    for text, size, media_type, used_at in rows:
        digest = Digest(text)
        if on_disk.get(digest, (None,))[0] == size:
            catalogue.add(digest, Entry(size, media_type, used_at))
        else:
            index.drop(digest)
            if on_disk.pop(digest, None):  # altered behind our back: not to be adopted again
                altered.append(digest)
    files.remove(altered)
    return catalogue


def _adopt(index: Index, catalogue: Catalogue, on_disk: dict[Digest, tuple[int, int]]) -> int:
    """Enter the files that no row knows: each was proven before it got its name."""
    strangers = [digest for digest in on_disk if catalogue.get(digest) is None]
    for digest in sorted(strangers, key=lambda digest: on_disk[digest][1]):
        size, at = on_disk[digest]
        catalogue.add(digest, Entry(size, None, at))
        index.put_blob(digest, size, None, at)
    return len(strangers)


async def _relate(index: Index, catalogue: Catalogue) -> None:
    """Enter links and children; equal repositories share one object."""
    repositories: dict[tuple[str, str], Repository] = {}
    for text, upstream, name in await index.links():
        known = repositories.setdefault((upstream, name), Repository(upstream, name))
        catalogue.link(Digest(text), known)
    for text, rows in groupby(await index.children(), key=lambda row: row[0]):
        digest = Digest(text)
        entry = catalogue.get(digest)
        if entry is not None and entry.media_type is not None:
            catalogue.describe(digest, entry.media_type, tuple(Digest(row[1]) for row in rows))
