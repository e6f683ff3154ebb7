"""A BlobStore in memory: for tests of all that stores blobs, without a disk."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from mirror.oci.digest import Digest, Hasher
from mirror.storage.blobs.protocol import BlobReader, ListedBlob, Recovered
from mirror.storage.errors import NotStored, StorageError


class _Bytes:
    """Bytes that grow, and when they were last written."""

    def __init__(self, data: bytes, changed_at: int) -> None:
        self.data = bytearray(data)
        self.changed_at = changed_at


class MemoryReader:
    """A BlobReader of bytes in memory."""

    def __init__(self, source: _Bytes, *, partial: bool = False) -> None:
        self.size = len(source.data)
        self.changed_at = None if partial else source.changed_at
        self.source = source

    def __repr__(self) -> str:
        return f"<MemoryReader: {self.size} bytes>"

    def fileno(self) -> None:
        """Return None: there is no file."""

    async def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of a span."""
        return bytes(self.source.data[start:stop])

    async def load(self, start: int, stop: int) -> int:  # noqa: ARG002 - as the protocol has it
        """Return the end of the span: it is in memory."""
        return stop

    async def hash(self, hasher: Hasher, start: int, stop: int) -> int:
        """Hash the bytes of a span; returns their number."""
        piece = await self.read(start, stop)
        hasher.update(piece)
        return len(piece)

    def duplicate(self) -> MemoryReader:
        """Return another reader of the same bytes."""
        return MemoryReader(self.source, partial=self.changed_at is None)

    def close(self) -> None:
        """Do nothing."""


class MemoryPartial:
    """A PartialBlob in memory."""

    def __init__(self, digest: Digest, source: _Bytes, store: MemoryBlobs) -> None:
        self.digest = digest
        self.hashed = len(source.data)
        self.reader: BlobReader = MemoryReader(source, partial=True)
        self._source = source
        self._store = store
        self._hasher = digest.hasher()
        self._hasher.update(bytes(source.data))

    def __repr__(self) -> str:
        return f"<MemoryPartial of {self.digest}: {self.written} bytes, {self.hashed} hashed>"

    @property
    def written(self) -> int:
        """The bytes that are written."""
        return len(self._source.data)

    @property
    def proven(self) -> bool:
        """Whether the hashed bytes match the digest."""
        return self._hasher.hexdigest() == self.digest.hex

    def hasher(self) -> Hasher:
        """Return a copy of the running hash."""
        return self._hasher.copy()

    async def hash(self, pieces: Sequence[bytes]) -> None:
        """Hash the next bytes."""
        for piece in pieces:
            self._hasher.update(piece)
            self.hashed += len(piece)

    async def append(self, pieces: Sequence[bytes]) -> None:
        """Write the next bytes; raises the store's `failure`."""
        self._store.may_write()
        for piece in pieces:
            self._source.data += piece
        self.reader.size = self.written

    async def copy(self, source: BlobReader, length: int) -> None:
        """Hash and write the first `length` bytes of another blob."""
        piece = bytes(await source.read(self.written, length))
        await self.hash([piece])
        await self.append([piece])

    async def start_over(self) -> None:
        """Discard all bytes."""
        self._store.may_write()
        self._source.data.clear()
        self._hasher = self.digest.hasher()
        self.hashed = self.reader.size = 0

    async def commit(self) -> int:
        """Make the bytes the blob; returns when they were written."""
        self._store.may_write()
        self._forget()
        return self._store.put(self.digest, self._source)

    async def remove(self) -> None:
        """Remove the partial; raises StorageError if the store `refuses_removal`."""
        self._store.may_remove()
        self._forget()

    def _forget(self) -> None:
        if self._store.partials.get(self.digest) is self._source:
            del self._store.partials[self.digest]

    def close(self) -> None:
        """Do nothing: the bytes stay in the store."""


class MemoryBlobs:
    """A BlobStore in memory, which can be made to fail as a disk does.

    Each write raises `failure` while that is set. A disk that `refuses_removal` fails at removing.
    """

    def __init__(self) -> None:
        self.failure: StorageError | None = None
        self.refuses_removal = False
        self.partials: dict[Digest, _Bytes] = {}
        self._blobs: dict[Digest, _Bytes] = {}
        self._quarantined: dict[Digest, _Bytes] = {}
        self._clock = itertools.count(1)

    def __repr__(self) -> str:
        return f"<MemoryBlobs: {len(self._blobs)} blobs, {len(self.partials)} partials>"

    def may_write(self) -> None:
        """Raise the failure that is set."""
        if self.failure is not None:
            raise self.failure

    def may_remove(self) -> None:
        """Raise an error if removals are refused."""
        if self.refuses_removal:
            raise StorageError("Read-only file system")

    def put(self, digest: Digest, source: _Bytes) -> int:
        """Make bytes a blob; returns their time."""
        source.changed_at = next(self._clock)
        self._blobs[digest] = source
        return source.changed_at

    def _get(self, digest: Digest) -> _Bytes:
        if (found := self._blobs.get(digest)) is None:
            raise NotStored("no such blob", str(digest))
        return found

    async def recover(self) -> Recovered:
        """List the content, by kind."""
        blobs = {found.digest: found for found in await self.scan()}
        return Recovered(blobs, _listed(self.partials), _listed(self._quarantined))

    async def close(self) -> None:
        """Do nothing."""

    async def open(self, digest: Digest) -> MemoryReader:
        """Open a blob; raises NotStored."""
        return MemoryReader(self._get(digest))

    async def read(self, digest: Digest) -> bytes:
        """Return a blob whole; raises NotStored."""
        return bytes(self._get(digest).data)

    async def size(self, digest: Digest) -> int | None:
        """Return the size of a blob in bytes, None if there is none."""
        found = self._blobs.get(digest)
        return None if found is None else len(found.data)

    async def prove(self, digest: Digest, size: int) -> int | None:
        """Hash a blob; returns its time, None if it is wrong. Raises NotStored."""
        found = self._get(digest)
        right = len(found.data) == size and digest.proves(bytes(found.data))
        return found.changed_at if right else None

    async def is_current(self, digest: Digest, reader: BlobReader) -> bool:
        """Whether a reader's bytes are still the blob's, or there is none."""
        found = self._blobs.get(digest)
        return found is None or (isinstance(reader, MemoryReader) and reader.source is found)

    async def partial(self, digest: Digest, *, isolated: bool = False) -> MemoryPartial:
        """Open a partial; raises the `failure`."""
        self.may_write()
        source = _Bytes(b"", 0) if isolated else self.partials.setdefault(digest, _Bytes(b"", 0))
        return MemoryPartial(digest, source, self)

    async def write(self, digest: Digest, body: bytes) -> int:
        """Store proven bytes; returns when they were written."""
        self.may_write()
        return self.put(digest, _Bytes(body, 0))

    async def delete(
        self,
        blobs: Collection[Digest],
        partials: Collection[Digest] = (),
        quarantined: Collection[Digest] = (),
    ) -> dict[Digest, StorageError]:
        """Remove content; returns the failures: all or none."""
        try:
            self.may_remove()
        except StorageError as error:
            return dict.fromkeys((*blobs, *partials, *quarantined), error)
        for digests, content in (
            (blobs, self._blobs),
            (partials, self.partials),
            (quarantined, self._quarantined),
        ):
            for digest in digests:
                content.pop(digest, None)
        return {}

    async def quarantine(self, digest: Digest) -> int | None:
        """Set a wrong blob aside; returns its size in bytes."""
        self.may_write()
        if (found := self._blobs.pop(digest, None)) is None:
            return None
        self._quarantined[digest] = found
        return len(found.data)

    async def scan(self) -> list[ListedBlob]:
        """List the blobs."""
        return _listed(self._blobs)

    async def trouble(self) -> str | None:
        """Return the failure that is set, None if there is none."""
        return None if self.failure is None else self.failure.reason

    async def probe(self) -> None:
        """Raise the failure that is set."""
        self.may_write()


def _listed(kept: dict[Digest, _Bytes]) -> list[ListedBlob]:
    return [
        ListedBlob(digest, len(found.data), found.changed_at, found.changed_at)
        for digest, found in kept.items()
    ]
