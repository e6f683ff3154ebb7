"""How a blob is served: stored, under way or fetched, and at the cost of which questions."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mirror.content.blobs.followers import FetchedBody
from mirror.content.outcome import Outcome
from mirror.oci.digest import Digest
from mirror.oci.errors import BlobUnknown, UpstreamMisbehaved
from mirror.oci.names import Repository
from tests.support.fetching import Fetching, fetching
from tests.support.memory_source import MemorySource

APP, ALSO = Repository("docker.io", "org/app"), Repository("docker.io", "org/also")
COPY = Repository("copy.example", "team/app")
SPAN = 64 * 1024  # bytes of a proof of possession
CONTENT = random.Random(9).randbytes(1_000_000)
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def hub() -> MemorySource:
    """An upstream that has the blob in two repositories."""
    hub = MemorySource()
    hub.add(APP.name, CONTENT)
    hub.add(ALSO.name, CONTENT)
    return hub


@pytest.fixture
def copy() -> MemorySource:
    """Another upstream that has the blob."""
    copy = MemorySource()
    copy.add(COPY.name, CONTENT)
    return copy


async def opened(world: Fetching, repository: Repository) -> tuple[Outcome, bool]:
    """Open the blob and wait for all of it; returns its outcome, and whether it was collapsed."""
    body = await world.blobs.open(repository, DIGEST)
    if isinstance(body, FetchedBody):
        await body.proven()
    assert body.size == len(CONTENT)
    body.close()
    await world.ended()
    return body.outcome, body.collapsed


async def test_a_blob_is_fetched_once_and_then_stored(tmp_path: Path, hub: MemorySource) -> None:
    async with fetching(tmp_path, {"docker.io": hub}) as world:
        assert await opened(world, APP) == (Outcome.MISS, False)
        assert await opened(world, APP) == (Outcome.HIT, False)
    assert [each.kind for each in hub.asked] == ["open"]


async def test_a_request_beside_the_first_is_collapsed_into_it(
    tmp_path: Path, hub: MemorySource
) -> None:
    async with fetching(tmp_path, {"docker.io": hub}) as world:
        first = await world.blobs.open(APP, DIGEST)
        second = await world.blobs.open(ALSO, DIGEST)
        assert [each.collapsed for each in (first, second)] == [False, True]
        first.close()
        second.close()
    assert [each.kind for each in hub.asked] == ["open", "find"]


async def test_another_repository_of_the_upstream_costs_a_question(
    tmp_path: Path, hub: MemorySource
) -> None:
    async with fetching(tmp_path, {"docker.io": hub}) as world:
        await opened(world, APP)
        assert await opened(world, ALSO) == (Outcome.REVALIDATED, False)
        assert await opened(world, ALSO) == (Outcome.HIT, False)
    assert [each.kind for each in hub.asked] == ["open", "find"]


async def test_another_upstream_costs_a_small_part_of_the_blob(
    tmp_path: Path, hub: MemorySource, copy: MemorySource
) -> None:
    async with fetching(tmp_path, {"docker.io": hub, "copy.example": copy}) as world:
        await opened(world, APP)
        assert await opened(world, COPY) == (Outcome.REVALIDATED, False)
        assert await opened(world, COPY) == (Outcome.HIT, False)
    [part] = copy.opened
    assert part.stop is not None
    assert part.stop - part.start == SPAN


async def test_another_upstream_without_ranges_sends_the_whole_blob_once(
    tmp_path: Path, hub: MemorySource, copy: MemorySource
) -> None:
    copy.ranges = False
    async with fetching(tmp_path, {"docker.io": hub, "copy.example": copy}) as world:
        await opened(world, APP)
        assert await opened(world, COPY) == (Outcome.MISS, False)
        assert await opened(world, COPY) == (Outcome.HIT, False)
    assert [each.range for each in copy.opened][1:] == [None]


async def test_another_upstream_with_other_bytes_is_given_nothing(
    tmp_path: Path, hub: MemorySource, copy: MemorySource
) -> None:
    copy.blobs[COPY.name, DIGEST] = bytes(len(CONTENT))
    async with fetching(tmp_path, {"docker.io": hub, "copy.example": copy}) as world:
        await opened(world, APP)
        with pytest.raises(UpstreamMisbehaved):
            await world.blobs.open(COPY, DIGEST)
        assert await opened(world, APP) == (Outcome.HIT, False)


async def test_a_refusal_is_remembered_for_its_repository(
    tmp_path: Path, hub: MemorySource
) -> None:
    missing = Repository("docker.io", "org/missing")
    async with fetching(tmp_path, {"docker.io": hub}) as world:
        for _ in range(2):
            with pytest.raises(BlobUnknown):
                await world.blobs.open(missing, DIGEST)
        assert await opened(world, APP) == (Outcome.MISS, False)
    assert [each.kind for each in hub.asked if each.repository == missing.name] == ["open", "head"]


async def test_a_head_learns_the_size_of_a_blob_under_way(
    tmp_path: Path, hub: MemorySource
) -> None:
    async with fetching(tmp_path, {"docker.io": hub}) as world:
        body = await world.blobs.open(APP, DIGEST)
        assert await world.blobs.head(APP, DIGEST) == (len(CONTENT), Outcome.MISS)
        body.close()
    assert [each.kind for each in hub.asked] == ["open"]
