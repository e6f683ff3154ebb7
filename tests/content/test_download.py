"""A download brings every byte once and in order from any source, or fails with a reason."""

from __future__ import annotations

import random

import pytest

from mirror.content.blobs.download import Download
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    BlobUnknown,
    ContentWrong,
    Denied,
    RangeRefused,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from mirror.oci.names import Repository
from tests.support.memory_source import MemorySource

APP = Repository("docker.io", "org/app")
CONTENT = random.Random(8).randbytes(3_000_000)
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def source() -> MemorySource:
    """A source that has one blob."""
    source = MemorySource()
    source.add(APP.name, CONTENT)
    return source


async def whole(
    source: MemorySource, start: int = 0, stop: int | None = None, digest: Digest = DIGEST
) -> bytes:
    """Download from `start` on."""
    body = bytearray()
    async with Download(source, APP, digest, start, stop) as download:
        while data := await download.read():
            body += data
        assert download.position == start + len(body)
    return bytes(body)


def starts(source: MemorySource) -> list[int]:
    """Return the first byte of each question for a part."""
    return [each.start for each in source.opened]


@pytest.mark.parametrize(("start", "stop"), [(0, None), (1_000, None), (1_000, 2_000_000)])
async def test_the_wanted_bytes_arrive_by_one_question(
    source: MemorySource, start: int, stop: int | None
) -> None:
    assert await whole(source, start, stop) == CONTENT[start:stop]
    assert starts(source) == [start]


async def test_a_body_that_breaks_off_is_resumed_at_its_byte(source: MemorySource) -> None:
    source.cuts = [1_000_000, 500_000]
    assert await whole(source) == CONTENT
    assert starts(source) == [0, 1_000_000, 1_500_000]


async def test_without_ranges_it_is_resumed_by_the_whole_blob(source: MemorySource) -> None:
    source.cuts, source.ranges = [1_000_000], False
    assert await whole(source) == CONTENT
    assert len(source.opened) == 2


async def test_a_part_that_may_not_cost_the_whole_blob_is_refused(source: MemorySource) -> None:
    source.ranges = False
    with pytest.raises(RangeRefused):
        async with Download(source, APP, DIGEST, 1_000, 2_000, plain=False):
            pass


async def test_ranges_that_break_off_at_once_are_replaced_by_the_whole_blob(
    source: MemorySource,
) -> None:
    source.cuts = [1_000_000, 10, 10]
    assert await whole(source) == CONTENT
    assert starts(source)[-1] == 0


async def test_a_body_that_breaks_off_without_end_is_given_up(source: MemorySource) -> None:
    digest = source.add(APP.name, bytes(6_000_000))
    source.cuts = [70_000] * 100  # each received piece is progress
    with pytest.raises(UpstreamMisbehaved):
        await whole(source, digest=digest)
    assert len(source.opened) <= 66


async def test_a_source_that_is_silent_for_the_resume_timeout_is_given_up(
    source: MemorySource,
) -> None:
    source.cuts, source.resume_timeout = [1_000_000, *[0] * 100], 0.1
    with pytest.raises(UpstreamUnavailable):
        await whole(source)


async def test_of_two_sizes_one_more_answer_decides(source: MemorySource) -> None:
    source.cuts, source.sizes = [1_000_000, 100_000], [len(CONTENT), 77]
    assert await whole(source) == CONTENT


async def test_sizes_that_differ_each_time_prove_the_content_wrong(source: MemorySource) -> None:
    source.cuts, source.sizes = [1_000_000], [len(CONTENT), 77, 78, 79]
    with pytest.raises(ContentWrong):
        await whole(source)


async def test_the_answer_about_the_whole_blob_is_final(source: MemorySource) -> None:
    source.denied.add(APP.name)
    with pytest.raises(Denied):
        await whole(source)
    source.denied.clear()
    source.blobs.clear()
    with pytest.raises(BlobUnknown):
        await whole(source)
    assert len(source.opened) == 2
