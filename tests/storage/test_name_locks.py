"""One lock per digest: a file that was just renamed into place is not unlinked or set aside."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.blobs.files import BlobFiles
from mirror.storage.blobs.filesystem import open_filesystem
from mirror.storage.catalog import charged
from mirror.storage.partial_lease import PartialLease
from mirror.storage.startup import open_store
from mirror.storage.store import Store
from tests.support.memory_metadata import open_memory

MEBIBYTE = 1024 * 1024
REPOSITORY = Repository("docker.io", "library/some")
BODY = b"some" * 25_000
DIGEST = Digest.of(BODY)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store of six mebibytes."""
    store = await open_store(tmp_path, 6 * MEBIBYTE, open_filesystem, open_memory)
    yield store
    await store.close()


class Slow:
    """A delayed call of the system: sets `begun`, and returns after `go`."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()


@contextmanager
def slow(monkeypatch: pytest.MonkeyPatch, name: str, digest: Digest) -> Iterator[Slow]:
    """Delay the first rename or unlink of a digest's file."""
    held, real, first = Slow(), getattr(Path, name), threading.Lock()

    def call(path: Path, *args: object, **more: object) -> object:
        places = [place for place in (path, *args) if isinstance(place, Path)]
        named = any(place.name == digest.hex and "blobs" in place.parts for place in places)
        if named and first.acquire(blocking=False):
            held.begun.set()
            held.go.wait(10)
        return real(path, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, name, call)
        yield held
        held.go.set()


async def begun(held: Slow) -> None:
    """Wait until the delayed call has begun."""
    assert await asyncio.to_thread(held.begun.wait, 10)


async def written(store: Store, body: bytes) -> PartialLease:
    """Write a blob, but do not publish it."""
    lease = store.lease(Digest.of(body), isolated=True)
    partial = await lease.open()
    await partial.hash([body])
    await partial.append([body])
    return lease


async def publish(store: Store, body: bytes = BODY) -> None:
    """Store a blob as a fetch does."""
    async with await written(store, body) as lease:
        await lease.commit(REPOSITORY)
    lease.close()


async def settle() -> None:
    """Let all tasks run up to their next wait."""
    for _ in range(20):
        await asyncio.sleep(0)


def is_kept(store: Store) -> bool:
    """Whether the blob is in the catalogue, and its file exists and is right."""
    path = BlobFiles(store.root).path(DIGEST)
    return store.catalog.get(DIGEST) is not None and path.read_bytes() == BODY


async def discarded(store: Store) -> None:
    await store.discard(DIGEST)


async def removed(store: Store) -> None:
    await store.quota.remove([DIGEST])


async def evicted(store: Store) -> None:
    store.quota.release(await store.quota.reserve(5 * MEBIBYTE))


@pytest.mark.parametrize("name", ["rename", "unlink"])
@pytest.mark.parametrize("second", [discarded, removed, evicted])
@pytest.mark.parametrize("first", [discarded, removed, evicted])
async def test_a_blob_that_is_published_during_its_removal_stays(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    first: Callable[[Store], Awaitable[None]],
    second: Callable[[Store], Awaitable[None]],
    name: str,
) -> None:
    """Taking the name from the old file does not take it from the new one, in any order."""
    await publish(store)
    with slow(monkeypatch, name, DIGEST) as held:
        going = [asyncio.ensure_future(first(store))]
        await settle()
        going.append(asyncio.ensure_future(second(store)))
        await settle()
        publishing = asyncio.create_task(publish(store))
        await settle()
        held.go.set()
        await asyncio.gather(publishing, *going)
    assert is_kept(store)
    assert store.accounting.going == 0
    assert not store.accounting.stuck


async def test_mending_does_not_set_aside_a_wrong_file_that_was_fetched_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(store)
    with slow(monkeypatch, "rename", DIGEST) as held:
        discarding = asyncio.create_task(store.discard(DIGEST))
        await begun(held)
        mending = asyncio.create_task(store._maintenance.mend())
        await settle()
        publishing = asyncio.create_task(publish(store))
        await settle()
        held.go.set()
        await asyncio.gather(discarding, mending, publishing)
    assert is_kept(store)
    assert len(store.accounting.quarantine) == 1


async def test_a_copy_of_another_upstream_is_not_unlinked_for_a_removed_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(store)
    with slow(monkeypatch, "rename", DIGEST) as held:
        publishing = asyncio.create_task(publish(store))
        await begun(held)
        removing = asyncio.create_task(store.quota.remove([DIGEST]))
        await settle()
        held.go.set()
        await asyncio.gather(publishing, removing)
    assert is_kept(store)


async def test_what_one_found_wrong_is_not_what_another_has_published_since(store: Store) -> None:
    await publish(store)
    before = store.catalog.get(DIGEST)
    await publish(store)
    assert store.catalog.get(DIGEST) is not before
    assert store.catalog.belongs(DIGEST, REPOSITORY)
    assert store.catalog.bytes == charged(len(BODY))


async def test_room_is_given_when_the_file_is_unlinked_and_not_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = os.urandom(4 * MEBIBYTE)
    await publish(store, big)
    digest = Digest.of(big)
    with slow(monkeypatch, "unlink", digest) as held:
        one = asyncio.create_task(store.quota.reserve(2 * MEBIBYTE))
        await begun(held)
        another = asyncio.create_task(store.quota.reserve(2 * MEBIBYTE))
        await settle()
        assert BlobFiles(store.root).path(digest).exists()
        assert not another.done()
        assert store.accounting.taken().leaving == charged(len(big))
        held.go.set()
        for promise in (one, another):
            store.quota.release(await promise)
    assert (store.accounting.going, store.accounting.promised) == (0, 0)


async def test_an_unlink_that_is_no_longer_awaited_is_entered_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(store)
    used = store.accounting.used
    with slow(monkeypatch, "unlink", DIGEST) as held:
        removing = asyncio.create_task(store.quota.remove([DIGEST]))
        await begun(held)
        removing.cancel()
        held.go.set()
        with suppress(asyncio.CancelledError):
            await removing
    assert store.accounting.used == used - charged(len(BODY))


async def test_a_publish_that_is_cancelled_has_file_row_and_link(store: Store) -> None:
    lease = await written(store, BODY)
    publishing = asyncio.create_task(lease.commit(REPOSITORY))
    await asyncio.sleep(0)
    publishing.cancel()
    with suppress(asyncio.CancelledError):
        await publishing
    lease.close()
    assert is_kept(store)
    assert store.catalog.belongs(DIGEST, REPOSITORY)


async def test_the_sums_are_kept_as_partials_come_and_go(store: Store) -> None:
    for number in range(1000):
        store.accounting.idle_partials[Digest.of(b"%d" % number)] = number
    assert store.accounting.idle_partials.bytes == sum(map(charged, range(1000)))
    await store.quota.remove_partials(list(store.accounting.idle_partials))
    assert store.accounting.taken().partial == 0


async def test_a_partial_can_be_taken_again_after_one_of_its_name_was_removed(
    store: Store,
) -> None:
    for _ in range(2):
        store.accounting.idle_partials[DIGEST] = len(BODY)
        await store.quota.remove_partials([DIGEST])
    store.accounting.idle_partials[DIGEST] = len(BODY)
    async with asyncio.timeout(5):
        store.quota.release(await store.quota.take_partial(DIGEST))


async def test_a_published_blob_is_counted_once_at_every_step(store: Store) -> None:
    """A blob counted as reserved and as stored, if only for a moment, could evict other blobs."""
    lease = await written(store, BODY)
    await lease.reserve(len(BODY))
    most = store.accounting.used
    publishing = asyncio.create_task(lease.commit(REPOSITORY))
    while not publishing.done():
        most = max(most, store.accounting.used)
        await asyncio.sleep(0)
    await publishing
    lease.close()
    assert is_kept(store)
    assert most == store.accounting.used
