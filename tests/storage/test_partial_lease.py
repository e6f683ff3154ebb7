"""A lease of a partial ends once; then its room is free, and its bytes are stored, kept or gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.errors import NoRoom, StorageError
from mirror.storage.partial_lease import PartialLease
from mirror.storage.store import Store
from tests.support.memory_blobs import MemoryBlobs
from tests.support.memory_store import memory_store

APP = Repository("docker.io", "org/app")
BODY = bytes(range(256)) * 100
DIGEST = Digest.of(BODY)
FULL = StorageError("No space left on device")


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[tuple[Store, MemoryBlobs]]:
    async with memory_store(tmp_path, 1_000_000) as made:
        yield made


@pytest.fixture
def store(made: tuple[Store, MemoryBlobs]) -> Store:
    return made[0]


@pytest.fixture
def blobs(made: tuple[Store, MemoryBlobs]) -> MemoryBlobs:
    return made[1]


async def write(lease: PartialLease, data: bytes) -> None:
    """Reserve room for bytes, and write them."""
    partial = await lease.open()
    await lease.reserve(partial.written + len(data))
    await partial.hash([data])
    await partial.append([data])


def ended(store: Store, lease: PartialLease, kept: int = 0) -> bool:
    """Whether a lease has ended with its room free, and a partial of this size left to resume."""
    left = {DIGEST: kept} if kept else {}
    return lease.ended and store.accounting.promised == 0 and store.idle_partials() == left


async def test_a_committed_lease_is_a_stored_and_linked_blob(
    store: Store, blobs: MemoryBlobs
) -> None:
    async with store.lease(DIGEST) as lease:
        await write(lease, BODY)
        entry = await lease.commit(APP)
    assert ended(store, lease)
    assert store.catalog.get(DIGEST) is entry
    assert store.catalog.belongs(DIGEST, APP)
    assert await blobs.read(DIGEST) == BODY
    assert not blobs.partials


@pytest.mark.parametrize("how", ["kept", "left", "failed"])
async def test_kept_bytes_are_resumed_by_the_next_lease(store: Store, how: str) -> None:
    with pytest.raises(StorageError) if how == "failed" else nullcontext():
        async with store.lease(DIGEST) as lease:
            await write(lease, BODY[:5000])
            if how == "kept":
                assert await lease.keep() == 5000
            if how == "failed":
                raise FULL
    assert ended(store, lease, kept=5000)
    async with store.lease(DIGEST) as again:
        await again.resume()
        assert (again.written, store.idle_partials()) == (5000, {})
        assert again.reserved >= 5000
        await write(again, BODY[5000:])
        await again.commit(APP)
    assert ended(store, again)


async def test_discarded_bytes_are_gone_and_readable_until_the_close(
    store: Store, blobs: MemoryBlobs
) -> None:
    async with store.lease(DIGEST) as lease:
        await write(lease, BODY[:5000])
        await lease.discard()
    assert ended(store, lease)
    assert not blobs.partials
    assert lease.partial is not None
    assert bytes(await lease.partial.reader.read(0, 5000)) == BODY[:5000]
    lease.close()
    assert lease.written == 0


@pytest.mark.parametrize("data", [b"", BODY[:5000]])
async def test_an_isolated_lease_keeps_nothing(
    store: Store, blobs: MemoryBlobs, data: bytes
) -> None:
    async with store.lease(DIGEST) as first:
        await write(first, BODY[:100])
    async with store.lease(DIGEST, isolated=True) as lease:
        await lease.resume()
        assert lease.written == 0
        await write(lease, data)
    assert ended(store, lease, kept=100)
    assert len(blobs.partials) == 1


async def test_an_empty_partial_is_not_kept(store: Store, blobs: MemoryBlobs) -> None:
    async with store.lease(DIGEST) as lease:
        await lease.open()
    assert ended(store, lease)
    assert not blobs.partials


async def test_a_lease_without_a_partial_leaves_none(store: Store, blobs: MemoryBlobs) -> None:
    async with store.lease(DIGEST) as lease:
        await lease.resume()
        await lease.reserve(10_000)
    assert ended(store, lease)
    assert not blobs.partials


async def test_a_lease_ends_once(store: Store) -> None:
    async with store.lease(DIGEST) as lease:
        await write(lease, BODY)
        await lease.commit(APP)
        for end in (lease.commit(APP), lease.keep(), lease.discard()):
            with pytest.raises(RuntimeError, match="has ended"):
                await end
    assert store.catalog.get(DIGEST) is not None


async def test_a_commit_that_fails_is_no_end(store: Store, blobs: MemoryBlobs) -> None:
    async with store.lease(DIGEST) as lease:
        await write(lease, BODY)
        blobs.failure = FULL
        with pytest.raises(StorageError):
            await lease.commit(APP)
        assert not lease.ended
        assert store.accounting.promised == lease.reserved > 0
    assert ended(store, lease, kept=len(BODY))
    assert store.catalog.get(DIGEST) is None


async def test_a_discard_that_fails_is_an_end(store: Store, blobs: MemoryBlobs) -> None:
    async with store.lease(DIGEST) as lease:
        await write(lease, BODY)
        blobs.refuses_removal = True
        with pytest.raises(StorageError):
            await lease.discard()
    assert ended(store, lease)


@pytest.mark.parametrize(("end", "data"), [("discard", BODY), ("keep", b"")])
async def test_a_cancelled_removal_is_finished(
    store: Store, blobs: MemoryBlobs, monkeypatch: pytest.MonkeyPatch, end: str, data: bytes
) -> None:
    lease = store.lease(DIGEST)
    await write(lease, data)
    assert lease.partial is not None
    remove, queued, turn = lease.partial.remove, asyncio.Event(), asyncio.Event()

    async def remove_in_turn() -> None:
        queued.set()
        await turn.wait()
        await remove()

    monkeypatch.setattr(lease.partial, "remove", remove_in_turn)
    ending = asyncio.create_task(getattr(lease, end)())
    await queued.wait()
    ending.cancel()
    await asyncio.sleep(0)
    turn.set()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert ended(store, lease)
    assert not blobs.partials


async def test_bytes_that_find_no_room_to_be_resumed_stay_where_they_are(store: Store) -> None:
    async with store.lease(DIGEST) as lease:
        await write(lease, BODY[:5000])
    store.change_max_size(1)
    async with store.lease(DIGEST) as again:
        with pytest.raises(NoRoom):
            await again.resume()
    assert ended(store, again, kept=5000)


async def test_reservations_are_told_and_given_back(store: Store) -> None:
    told = list[int]()
    async with store.lease(DIGEST, reserving=told.append) as lease:
        assert lease.fits(900_000)
        assert not lease.fits(1_100_000)
        await write(lease, BODY[:5000])
        await lease.reserve(20_000)
        assert sum(told) == lease.reserved == store.accounting.promised >= 20_000
    assert sum(told) == lease.reserved == 0
