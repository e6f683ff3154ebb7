"""A fetch alone: with every end its room is free, and its bytes are stored or can be resumed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.content.blobs.allowance import Allowance
from mirror.content.blobs.fetch import Fetch
from mirror.content.blobs.fetch_partial import FetchPartial
from mirror.content.blobs.possession import Possession
from mirror.content.memory_cache import MemoryCache
from mirror.oci.digest import Digest
from mirror.oci.errors import ContentWrong, UpstreamUnavailable
from mirror.oci.names import Repository
from mirror.storage.errors import Stopping, StorageError
from mirror.storage.store import Store
from tests.support.memory_blobs import MemoryBlobs
from tests.support.memory_source import Gate, MemorySource
from tests.support.memory_store import memory_store

APP, OTHER = Repository("docker.io", "org/app"), Repository("other.example", "org/app")
CONTENT = random.Random(17).randbytes(3_000_000)
WRONG = random.Random(18).randbytes(3_000_000)
DIGEST = Digest.of(CONTENT)
FULL = StorageError("No space left on device")


@dataclass
class World:
    """A store in memory, and the parts that fetches share."""

    store: Store
    blobs: MemoryBlobs
    possession: Possession
    allowance: Allowance

    def fetch(
        self,
        source: MemorySource,
        digest: Digest = DIGEST,
        repository: Repository = APP,
        *,
        isolated: bool = False,
    ) -> Fetch:
        """Make a fetch with a follower."""
        kept = self.store, self.possession, self.allowance
        partial = FetchPartial(source, repository, digest, *kept, isolated=isolated)
        memory = MemoryCache(memory_cache=10**6)
        fetch = Fetch(source, repository, digest, self.store, partial, memory)
        fetch.join(repository)
        return fetch

    async def fetched(self, source: MemorySource, digest: Digest = DIGEST) -> Fetch:
        """Run a fetch to its end."""
        fetch = self.fetch(source, digest)
        await fetch.run()
        return fetch

    def is_tidy(self, fetch: Fetch, left: int = 0, digest: Digest = DIGEST) -> bool:
        """Whether no room is reserved, and a partial of this size is left to be resumed."""
        fetch.leave(fetch.repository)
        idle = {digest: left} if left else {}
        files = {each: len(source.data) for each, source in self.blobs.partials.items()}
        return (
            fetch.ended
            and self.store.accounting.promised == 0
            and repr(self.allowance) == "<Allowance: {}>"
            and self.store.idle_partials() == idle == files
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with memory_store(tmp_path) as (store, blobs), asyncio.timeout(30):
        possession = Possession(store, bytes(32))
        yield World(store, blobs, possession, Allowance(lambda: 10**8, [1, 2]))
        await possession.close()


@pytest.fixture
def source() -> MemorySource:
    source = MemorySource(resume_timeout=0)
    source.add(APP.name, CONTENT)
    return source


async def begun(fetch: Fetch, source: MemorySource) -> asyncio.Task[None]:
    """Run a fetch up to the gate, with all bytes before it written."""
    task = asyncio.create_task(fetch.run())
    assert source.gate is not None
    while not source.opened or fetch._partial.written < source.gate.position:
        await asyncio.to_thread(len, source.opened)
    return task


async def test_a_proven_blob_is_committed_and_its_followers_keep_it(
    world: World, source: MemorySource
) -> None:
    fetch = await world.fetched(source)
    assert (fetch.proven, fetch.failure, fetch.bypass) == (True, None, None)
    assert world.store.catalog.belongs(DIGEST, APP)
    assert await world.blobs.read(DIGEST) == CONTENT
    assert world.store.catalog.victims(1) is None  # the follower still reads the blob
    assert world.is_tidy(fetch)
    assert world.store.catalog.victims(1) == [DIGEST]


async def test_a_body_that_breaks_off_is_kept_and_resumed(
    world: World, source: MemorySource
) -> None:
    source.cuts = [1_000_000] + [0] * 100
    fetch = await world.fetched(source)
    assert isinstance(fetch.failure, UpstreamUnavailable)
    assert world.is_tidy(fetch, left=1_000_000)
    source.cuts, source.asked = [], []
    again = await world.fetched(source)
    assert again.proven
    assert [each.start for each in source.opened] == [1_000_000]
    assert world.is_tidy(again)


@pytest.mark.parametrize("position", [1_000_000, 0])
async def test_a_cancelled_fetch_keeps_its_partial(
    world: World, source: MemorySource, position: int
) -> None:
    source.gate = Gate(position)
    fetch = world.fetch(source)
    task = await begun(fetch, source)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert fetch.failure is not None
    assert fetch.failure.message == "the fetch was stopped"
    assert world.is_tidy(fetch, left=position)


async def test_an_unexpected_fault_ends_the_wait_of_followers(
    world: World, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("a fault of the host")

    monkeypatch.setattr(source, "open_blob", broken)
    fetch = world.fetch(source)
    with pytest.raises(OSError, match="a fault of the host"):
        await fetch.run()
    with pytest.raises(UpstreamUnavailable, match="the fetch was stopped"):
        async with asyncio.timeout(5):
            await fetch.started(APP)
    assert world.is_tidy(fetch)


async def test_an_isolated_fetch_keeps_nothing(world: World, source: MemorySource) -> None:
    source.gate = Gate(1_000_000)
    fetch = world.fetch(source, isolated=True)
    task = await begun(fetch, source)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert world.is_tidy(fetch)


async def test_wrong_bytes_that_followers_saw_are_discarded(
    world: World, source: MemorySource
) -> None:
    source.blobs[APP.name, DIGEST] = WRONG
    fetch = await world.fetched(source)
    assert isinstance(fetch.failure, ContentWrong)
    assert len(source.opened) == 1
    assert world.is_tidy(fetch)
    assert world.store.catalog.get(DIGEST) is None


async def test_wrong_bytes_that_no_follower_saw_are_fetched_once_more(
    world: World, source: MemorySource
) -> None:
    small = source.add(APP.name, CONTENT[:10_000])
    source.blobs[APP.name, small] = WRONG[:10_000]
    fetch = await world.fetched(source, small)
    assert isinstance(fetch.failure, ContentWrong)
    assert [each.unpack for each in source.opened] == [False, True]
    assert world.is_tidy(fetch)


@pytest.mark.parametrize(("failure", "failures"), [(FULL, 1), (Stopping(), 0)])
async def test_where_the_disk_fails_followers_go_round_it_and_the_bytes_stay(
    world: World, source: MemorySource, failure: StorageError, failures: int
) -> None:
    source.gate = gate = Gate(1_000_000)
    fetch = world.fetch(source)
    task = await begun(fetch, source)
    world.blobs.failure = failure
    gate.open.set()
    await task
    assert fetch.failure is None
    assert fetch.bypass is not None
    written = fetch.bypass.written
    assert written >= 1_000_000
    assert fetch.bypass.hasher.hexdigest() == Digest.of(CONTENT[:written]).hex
    assert world.store.failures == failures
    assert world.is_tidy(fetch, left=1_000_000)


async def test_a_disk_that_fails_after_the_proof_costs_no_follower_a_byte(
    world: World, source: MemorySource
) -> None:
    source.gate = gate = Gate(2_900_000)
    fetch = world.fetch(source)
    task = await begun(fetch, source)

    async def fail_once_proven() -> None:
        await fetch.past(len(CONTENT) - 1)
        world.blobs.failure = FULL

    failing = asyncio.create_task(fail_once_proven())
    gate.open.set()
    await asyncio.gather(task, failing)
    assert (fetch.proven, fetch.failure, fetch.bypass) == (True, None, None)
    assert world.store.catalog.get(DIGEST) is None
    assert world.is_tidy(fetch, left=fetch._partial.written)


async def test_without_room_nothing_is_begun(tmp_path: Path, source: MemorySource) -> None:
    async with memory_store(tmp_path, 2_000_000) as (store, blobs):
        possession = Possession(store, bytes(32))
        world = World(store, blobs, possession, Allowance(lambda: 2_000_000, [1, 2]))
        fetch = await world.fetched(source)
        assert fetch.bypass is not None
        assert fetch.bypass.written == 0
        assert world.is_tidy(fetch)
        await possession.close()


async def test_bytes_that_another_fetch_has_stored_meanwhile_are_discarded(
    world: World, source: MemorySource
) -> None:
    source.gate = gate = Gate(1_000_000)
    fetch = world.fetch(source)
    task = await begun(fetch, source)
    async with world.store.lease(DIGEST, isolated=True) as lease:
        partial = await lease.open()
        await partial.hash([CONTENT])
        await partial.append([CONTENT])
        entry = await lease.commit(OTHER)
    gate.open.set()
    await task
    assert world.store.catalog.get(DIGEST) is entry
    assert world.store.catalog.belongs(DIGEST, APP)
    assert world.is_tidy(fetch)


async def left_by_another(world: World) -> None:
    """Leave a partial of a million bytes from another upstream."""
    async with world.store.lease(DIGEST) as lease:
        partial = await lease.open()
        await partial.hash([CONTENT[:1_000_000]])
        await partial.append([CONTENT[:1_000_000]])
    world.possession.left(DIGEST, OTHER.upstream)


async def test_another_upstreams_bytes_are_copied_after_a_proof(
    world: World, source: MemorySource
) -> None:
    await left_by_another(world)
    fetch = await world.fetched(source)
    assert fetch.proven
    assert source.opened[-1].start == 1_000_000
    assert world.is_tidy(fetch)  # the other upstream's partial is of no use any more


@pytest.mark.parametrize("complete", [True, False])
async def test_another_upstreams_bytes_stay_where_there_is_no_proof(
    world: World, source: MemorySource, *, complete: bool
) -> None:
    await left_by_another(world)
    source.ranges = False
    if not complete:
        source.cuts = [2_000_000] * 100
    fetch = await world.fetched(source)
    assert fetch.proven == complete
    assert source.opened[-1].start == 0 or not complete
    assert world.is_tidy(fetch, left=0 if complete else 1_000_000)


async def test_an_upstream_that_is_asked_twice_proves_nothing_twice(
    world: World, source: MemorySource
) -> None:
    """An upstream's own partial is resumed without a proof."""
    source.cuts = [1_000_000] + [0] * 100
    assert world.is_tidy(await world.fetched(source), left=1_000_000)
    assert world.possession.left_by(DIGEST) == APP.upstream
