"""Uses of content: in the index once an hour, and at a stop."""

from __future__ import annotations

import time
from pathlib import Path

from mirror.oci.digest import Digest
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.metadata.sqlite.store import open_sqlite
from mirror.storage.startup import open_store
from mirror.storage.store import Store
from tests.support.folder import DataFolder

BLOB, OTHER = Digest.of(b"blob"), Digest.of(b"other")
HOUR = 3600


async def opened(folder: Path, ages: dict[Digest, int]) -> Store:
    """Open a store whose content was used so many seconds ago."""
    index = await open_sqlite(folder)
    await index.close()
    with DataFolder(folder).database() as database:
        for digest, age in ages.items():
            path = DataFolder(folder).blob(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
            row = (digest, int(time.time()) - age)
            database.execute(
                "INSERT INTO blob (digest, size, used_at) VALUES (digest_bytes(?), 1, ?)", row
            )
    return await open_store(folder, 10**8, open_filesystem, open_sqlite)


def noted(folder: Path) -> dict[object, bool]:
    """Return for each digest whether the index has a use of the last minute."""
    rows = DataFolder(folder).rows("SELECT digest_text(digest), used_at FROM blob")
    return {digest: time.time() - int(str(at)) < 60 for digest, at in rows}


async def test_a_use_is_written_once_an_hour_and_at_a_stop(tmp_path: Path) -> None:
    store = await opened(tmp_path, {BLOB: HOUR + 9, OTHER: HOUR // 2})
    for _ in range(2):
        for digest in (BLOB, OTHER):
            store.touch(digest)
        assert not store.accounting.uses.date()
        await store.index.flush()
        assert noted(tmp_path) == {BLOB: True, OTHER: False}
        assert store.index.pending == 0
    await store.close()
    assert noted(tmp_path) == {BLOB: True, OTHER: True}


async def test_a_use_by_a_clock_that_was_ahead_is_written_anew(tmp_path: Path) -> None:
    store = await opened(tmp_path, {BLOB: 0})
    entry = store.catalog.get(BLOB)
    assert entry is not None
    entry.noted_at += 10 * HOUR
    store.touch(BLOB)
    store.accounting.uses.date()
    assert store.index.pending == 1
    await store.close()


async def test_content_that_left_has_no_use_to_write(tmp_path: Path) -> None:
    store = await opened(tmp_path, {BLOB: 0, OTHER: HOUR + 9})
    for digest in (BLOB, OTHER):
        store.touch(digest)
    await store.remove([OTHER])
    store.accounting.uses.date()
    await store.remove([BLOB])
    await store.index.flush()
    assert not store.accounting.uses.note_last()
    assert store.index.pending == 0
    await store.close()
    assert noted(tmp_path) == {}
