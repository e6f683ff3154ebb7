"""Tags move forward: no order of answers serves an older manifest than the newest stored one."""

from __future__ import annotations

import asyncio

import pytest

from mirror.content.manifests.tags import Tags
from mirror.content.outcome import StaleReason
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository, Tag
from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.metadata.rows import TagKey
from tests.standin import Fault, Hub, make_image
from tests.support.clock import Clock
from tests.support.mirror import Run

NAME = "library/nginx"
KEY = TagKey(Repository("docker.io", NAME), Tag("latest"))


def described(number: int) -> Descriptor:
    """Describe a manifest of this number."""
    return Descriptor(Digest.of(b"%d" % number), "a/b", 10)


async def test_a_tag_goes_back_to_a_manifest_that_arrives_late(hub: Hub, run: Run) -> None:
    """The first manifest is stored, the second under way, and the third named but never served."""
    first, second, third = (make_image(number) for number in range(3))
    hub.add(first, NAME, "latest")
    async with run(tag_ttl=0, stale_after=0.5) as mirror:
        assert (await mirror.manifest(NAME, "latest")).body == first.manifest
        hub.add(second, NAME, "latest")
        arrives = asyncio.Event()
        slow = Fault(
            kind="manifest", method="GET", reference=second.digest, hang=True, until=arrives
        )
        hub.faults.add(slow)
        waiting = asyncio.create_task(mirror.manifest(NAME, "latest"))
        await hub.journal.wait(
            lambda seen: seen.method == "GET" and seen.reference == second.digest
        )
        hub.add(third, NAME, "latest")
        hub.faults.add(
            Fault(kind="manifest", method="GET", reference=third.digest, status=500, times=None)
        )
        hub.faults.add(
            Fault(kind="manifest", method="GET", reference="latest", status=500, times=None)
        )
        await mirror.manifest(NAME, "latest", "HEAD")
        arrives.set()
        await waiting
        assert (await mirror.manifest(NAME, "latest")).body == second.manifest


@pytest.mark.parametrize("lost", ["before it arrives", "after it arrives", "never"])
async def test_a_tag_never_goes_back_beyond_the_newest_that_is_here(
    index: MetadataStore, lost: str
) -> None:
    clock = Clock()
    tags, repository = Tags(index, 60, 0, clock, clock), KEY.repository
    for number in range(3):
        clock.now += 10
        tags.put(KEY, described(number))
        if number == 0:
            tags.arrived(repository, described(0).digest)
    if lost == "before it arrives":
        tags.lost(repository, described(2).digest, StaleReason.FAULT)
    tags.arrived(repository, described(1).digest)
    if lost == "after it arrives":
        tags.lost(repository, described(2).digest, StaleReason.FAULT)
    found = tags.get(KEY)
    assert found is not None
    newest = found.before if lost == "never" else found
    assert newest is not None
    assert newest.found == described(1)
    await index.flush()
    assert [row.found.digest for row in await index.tags()] == [described(1).digest]
    tags.arrived(repository, described(0).digest)  # an older manifest changes nothing
    assert tags.get(KEY) is found
    tags.arrived(repository, described(2).digest)  # the third arrives after all
    found = tags.get(KEY)
    assert found is not None
    assert found.found == described(2)


def test_the_time_of_an_answer_stays_the_same_as_it_ages(index: MetadataStore) -> None:
    clock = Clock()
    tags = Tags(index, 60, 0, clock, lambda: 1_000_000.9 + clock.now)
    tagged = tags.put(KEY, described(1))
    times = set()
    for _ in range(30):
        times.add(tags.checked_at(tagged))
        clock.now += 0.07
    assert times == {1_000_000}


async def test_a_manifest_is_awaited_for_a_bounded_number_of_tags(index: MetadataStore) -> None:
    """Endless HEADs of new tags of one manifest, without a GET of it, take bounded memory."""
    tags = Tags(index, 60, 0)
    repository, found = KEY.repository, described(1)
    for number in range(1000):
        tags.put(TagKey(repository, Tag(f"t{number}")), found)
    assert max(map(len, tags._awaiting.values())) <= 64
