"""The promises of `BlobStore`: one suite, inherited by a test of each implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.storage.blobs.protocol import BlobReader, BlobStore, PartialBlob
from mirror.storage.errors import NotStored

BODY = bytes(range(256)) * 1000
DIGEST = Digest.of(BODY)
OTHER = Digest.of(b"other")


async def whole(reader: BlobReader) -> bytes:
    """Read the whole blob, and close its reader."""
    try:
        return bytes(await reader.read(0, reader.size))
    finally:
        reader.close()


async def take_in(partial: PartialBlob, data: bytes) -> None:
    """Hash and write bytes."""
    await partial.hash([data])
    await partial.append([data])


class BlobStoreConformance(ABC):
    """The suite."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[BlobStore]:
        """Open the blob store of a new folder."""

    @pytest.fixture
    async def blobs(self, tmp_path: Path) -> AsyncIterator[BlobStore]:
        """An empty store."""
        async with self.opened(tmp_path) as blobs:
            yield blobs

    async def test_a_written_blob_is_read(self, blobs: BlobStore) -> None:
        changed_at = await blobs.write(DIGEST, BODY)
        reader = await blobs.open(DIGEST)
        assert (reader.size, reader.changed_at) == (len(BODY), changed_at)
        assert await whole(reader) == await blobs.read(DIGEST) == BODY
        assert await blobs.size(DIGEST) == len(BODY)

    async def test_a_missing_blob_is_not_stored(self, blobs: BlobStore) -> None:
        for question in (blobs.open(DIGEST), blobs.read(DIGEST), blobs.prove(DIGEST, 1)):
            with pytest.raises(NotStored):
                await question
        assert await blobs.size(DIGEST) is None
        assert await blobs.quarantine(DIGEST) is None
        assert await blobs.delete([DIGEST], [DIGEST], [DIGEST]) == {}

    async def test_a_span_is_read_to_the_end_of_the_blob_and_no_further(
        self, blobs: BlobStore
    ) -> None:
        await blobs.write(DIGEST, BODY)
        reader = await blobs.open(DIGEST)
        assert bytes(await reader.read(10, 300)) == BODY[10:300]
        assert bytes(await reader.read(len(BODY) - 5, len(BODY) + 5)) == BODY[-5:]
        assert bytes(await reader.read(len(BODY), len(BODY) + 5)) == b""
        assert await reader.load(10, 300) >= 300
        reader.close()

    async def test_a_span_is_hashed(self, blobs: BlobStore) -> None:
        await blobs.write(DIGEST, BODY)
        reader, hasher, position = await blobs.open(DIGEST), DIGEST.hasher(), 0
        while count := await reader.hash(hasher, position, position + 100_000):
            position += count
        reader.close()
        assert (position, hasher.hexdigest()) == (len(BODY), DIGEST.hex)

    async def test_an_open_blob_outlives_its_removal_and_its_first_reader(
        self, blobs: BlobStore
    ) -> None:
        await blobs.write(DIGEST, BODY)
        reader = await blobs.open(DIGEST)
        second = reader.duplicate()
        assert await blobs.delete([DIGEST]) == {}
        assert await whole(reader) == BODY
        assert (second.size, second.changed_at) == (reader.size, reader.changed_at)
        assert await whole(second) == BODY

    async def test_a_blob_is_proven_by_its_hash_and_size(self, blobs: BlobStore) -> None:
        changed_at = await blobs.write(DIGEST, BODY)
        await blobs.write(OTHER, b"not these")
        assert await blobs.prove(DIGEST, len(BODY)) == changed_at
        assert await blobs.prove(DIGEST, len(BODY) - 1) is None
        assert await blobs.prove(OTHER, len(b"not these")) is None

    async def test_a_replaced_blob_is_not_the_current_one(self, blobs: BlobStore) -> None:
        await blobs.write(DIGEST, BODY)
        reader = await blobs.open(DIGEST)
        assert await blobs.is_current(DIGEST, reader)
        await blobs.write(DIGEST, BODY)
        assert not await blobs.is_current(DIGEST, reader)
        await blobs.delete([DIGEST])
        assert await blobs.is_current(DIGEST, reader)
        reader.close()

    async def test_a_quarantined_blob_is_gone_until_it_is_stored_again(
        self, blobs: BlobStore
    ) -> None:
        await blobs.write(DIGEST, BODY)
        assert await blobs.quarantine(DIGEST) == len(BODY)
        assert await blobs.size(DIGEST) is None
        await blobs.write(DIGEST, BODY)
        assert await blobs.delete([], quarantined=[DIGEST]) == {}
        assert await blobs.read(DIGEST) == BODY

    async def test_blobs_are_listed_and_nothing_else(self, blobs: BlobStore) -> None:
        changed_at = await blobs.write(DIGEST, BODY)
        await blobs.write(OTHER, b"wrong")
        await blobs.quarantine(OTHER)
        partial = await blobs.partial(OTHER)
        await take_in(partial, b"oth")
        partial.close()
        [listed] = await blobs.scan()
        assert listed[:3] == (DIGEST, len(BODY), changed_at)

    async def test_what_an_earlier_daemon_left_is_listed_by_its_kind(
        self, blobs: BlobStore
    ) -> None:
        other, wrong = Digest.of(b"a partial"), Digest.of(b"wrong")
        await blobs.write(DIGEST, BODY)
        await blobs.write(wrong, b"wrong")
        await blobs.quarantine(wrong)
        partial = await blobs.partial(other)
        await take_in(partial, BODY[:1000])
        partial.close()
        recovered = await blobs.recover()
        assert {digest: each.size for digest, each in recovered.blobs.items()} == {
            DIGEST: len(BODY)
        }
        assert [(each.digest, each.size) for each in recovered.partials] == [(other, 1000)]
        assert [(each.digest, each.size) for each in recovered.quarantined] == [(wrong, 5)]

    async def test_a_partial_is_read_while_it_is_written(self, blobs: BlobStore) -> None:
        partial = await blobs.partial(DIGEST)
        assert (partial.hashed, partial.written) == (0, 0)
        await take_in(partial, BODY[:1000])
        assert bytes(await partial.reader.read(500, 1000)) == BODY[500:1000]
        await take_in(partial, BODY[1000:2000])
        assert bytes(await partial.reader.read(500, 2000)) == BODY[500:2000]
        assert partial.reader.size == partial.written == partial.hashed == 2000
        partial.close()

    async def test_a_committed_partial_is_the_blob(self, blobs: BlobStore) -> None:
        partial = await blobs.partial(DIGEST)
        await take_in(partial, BODY[:1000])
        assert not partial.proven
        await take_in(partial, BODY[1000:])
        assert partial.proven
        changed_at = await partial.commit()
        assert bytes(await partial.reader.read(0, 100)) == BODY[:100]  # for followers of the fetch
        partial.close()
        reader = await blobs.open(DIGEST)
        assert reader.changed_at == changed_at
        assert await whole(reader) == BODY
        again = await blobs.partial(DIGEST)
        assert again.written == 0
        await again.remove()
        again.close()

    async def test_a_closed_partial_is_committed_or_removed(self, blobs: BlobStore) -> None:
        partial, other = await blobs.partial(DIGEST, isolated=True), await blobs.partial(OTHER)
        await take_in(partial, BODY)
        await take_in(other, b"oth")
        partial.close()
        other.close()
        await other.remove()
        changed_at = await partial.commit()
        reader = await blobs.open(DIGEST)
        assert reader.changed_at == changed_at
        assert await whole(reader) == BODY
        assert [each.digest for each in await blobs.scan()] == [DIGEST]

    async def test_a_kept_partial_is_resumed(self, blobs: BlobStore) -> None:
        first = await blobs.partial(DIGEST)
        await take_in(first, BODY[:1000])
        first.close()
        second = await blobs.partial(DIGEST)
        assert (second.hashed, second.written) == (1000, 1000)
        await take_in(second, BODY[1000:])
        assert second.proven
        await second.remove()
        second.close()

    async def test_a_removed_partial_is_read_and_not_resumed(self, blobs: BlobStore) -> None:
        first = await blobs.partial(DIGEST)
        await take_in(first, BODY[:1000])
        await first.remove()
        await first.remove()
        assert bytes(await first.reader.read(0, 1000)) == BODY[:1000]
        second = await blobs.partial(DIGEST)
        assert second.written == 0
        for partial in (first, second):
            partial.close()

    async def test_an_idle_partial_is_deleted_by_its_digest(self, blobs: BlobStore) -> None:
        first = await blobs.partial(DIGEST)
        await take_in(first, BODY[:1000])
        first.close()
        assert await blobs.delete([], partials=[DIGEST]) == {}
        second = await blobs.partial(DIGEST)
        assert second.written == 0
        second.close()

    async def test_an_isolated_partial_is_apart_from_the_other(self, blobs: BlobStore) -> None:
        left = await blobs.partial(DIGEST)
        await take_in(left, BODY[:1000])
        isolated = await blobs.partial(DIGEST, isolated=True)
        assert isolated.written == 0
        await isolated.copy(left.reader, 600)
        assert (isolated.hashed, isolated.written, left.written) == (600, 600, 1000)
        await take_in(isolated, BODY[600:])
        await isolated.commit()
        assert bytes(await left.reader.read(0, 1000)) == BODY[:1000]
        for partial in (left, isolated):
            partial.close()
        assert await blobs.read(DIGEST) == BODY

    async def test_a_partial_starts_over(self, blobs: BlobStore) -> None:
        partial = await blobs.partial(DIGEST)
        await take_in(partial, b"wrong")
        running = partial.hasher()
        await partial.start_over()
        assert (partial.hashed, partial.written, partial.reader.size) == (0, 0, 0)
        await take_in(partial, BODY)
        assert partial.proven
        assert running.hexdigest() == Digest.of(b"wrong").hex
        await partial.commit()
        partial.close()
        assert await blobs.read(DIGEST) == BODY

    async def test_an_empty_blob_is_a_blob(self, blobs: BlobStore) -> None:
        empty = Digest.of(b"")
        partial = await blobs.partial(empty)
        assert partial.proven
        await partial.commit()
        partial.close()
        reader = await blobs.open(empty)
        assert (reader.size, await whole(reader)) == (0, b"")

    async def test_a_healthy_store_has_no_trouble(self, blobs: BlobStore) -> None:
        assert await blobs.trouble() is None
        await blobs.probe()
