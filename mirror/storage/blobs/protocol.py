"""The seam between the store and the place where its bytes are: files, memory, or a service.

A `BlobStore` knows digests and bytes. Repositories, the bound and the number of readers belong to
the `Store`. All waiting is `async`, and the event loop is never held: an implementation with
blocking calls runs them on threads. Failures are `StorageError`s; of the numbers, paths and
descriptors of the system only `BlobReader.fileno` is visible.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from mirror.oci.digest import Digest, Hasher
from mirror.storage.errors import StorageError


class ListedBlob(NamedTuple):
    """A listed blob: size in bytes, and when it was last written and moved, in nanoseconds."""

    digest: Digest
    size: int
    changed_at: int
    moved_at: int


class Recovered(NamedTuple):
    """The content that an earlier daemon left, by kind."""

    blobs: dict[Digest, ListedBlob]
    partials: list[ListedBlob]
    quarantined: list[ListedBlob]


class BlobReader(Protocol):
    """The bytes of an open blob, which stay readable after its removal.

    Many clients share a reader, each at its own position. `size` is in bytes: of a blob as it was
    opened, of a partial as far as it is written. `changed_at` is when the bytes were last written,
    in nanoseconds since the epoch; None for a partial.
    """

    size: int
    changed_at: int | None

    def fileno(self) -> int | None:
        """Return the descriptor of a file, for sendfile; None if there is no file."""

    async def read(self, start: int, stop: int) -> bytes | memoryview:
        """Return the bytes of a span, fewer at the blob's end only; raises StorageError."""

    async def load(self, start: int, stop: int) -> int:
        """Bring a span into memory, so that a sendfile of it does not wait for a disk.

        Returns the end of the bytes in memory, which may be beyond `stop`. Raises StorageError.
        """

    async def hash(self, hasher: Hasher, start: int, stop: int) -> int:
        """Hash the bytes of a span, off the event loop; returns their number, less at the end.

        Raises StorageError.
        """

    def duplicate(self) -> BlobReader:
        """Return another reader of the same bytes, to be closed by itself; raises Unavailable."""

    def close(self) -> None:
        """Give the bytes up. Never waits for a disk."""


class PartialBlob(Protocol):
    """A blob that is being written. `hashed` and `written` are counts of bytes.

    Hash and disk go each at their own pace, so either count may be ahead of the other. One task at
    a time calls `hash`, and one `append`. `reader` reads the written bytes; it stays valid after
    `commit` and after `remove`, until `close`.
    """

    digest: Digest
    hashed: int
    reader: BlobReader

    @property
    def written(self) -> int:
        """The bytes that are written."""

    @property
    def proven(self) -> bool:
        """Whether the hashed bytes match the digest."""

    def hasher(self) -> Hasher:
        """Return a copy of the running hash, for a follower that continues without the disk."""

    async def hash(self, pieces: Sequence[bytes]) -> None:
        """Hash the next bytes; raises Stopping."""

    async def append(self, pieces: Sequence[bytes]) -> None:
        """Write the next bytes; raises StorageError, after which `written` is still right."""

    async def copy(self, source: BlobReader, length: int) -> None:
        """Hash and write the first `length` bytes of another blob; raises StorageError."""

    async def start_over(self) -> None:
        """Discard all bytes; raises StorageError."""

    async def commit(self) -> int:
        """Make a proven partial the blob, in one step that survives a power cut.

        Returns when its bytes were written, in nanoseconds since the epoch. Raises StorageError,
        after which the partial is as before.
        """

    async def remove(self) -> None:
        """Remove the partial, so that no later one resumes it; raises StorageError."""

    def close(self) -> None:
        """Give the bytes up; they stay for a later partial of this digest, unless removed.

        `commit` and `remove` work afterwards, too: more blobs may wait for these than files may be
        open.
        """


class BlobStore(Protocol):
    """Bytes by digest. Any call may raise Stopping once the mirror stops."""

    async def recover(self) -> Recovered:
        """List the content of an earlier daemon; called once, before others. Raises StorageError.

        Isolated partials, which none resumes, are gone by then.
        """

    async def close(self) -> None:
        """Stop the work that runs for several callers."""

    async def open(self, digest: Digest) -> BlobReader:
        """Open a blob; raises NotStored, Damaged, Unavailable, or another StorageError."""

    async def read(self, digest: Digest) -> bytes:
        """Return a small blob whole; raises StorageError."""

    async def size(self, digest: Digest) -> int | None:
        """Return the size of a blob in bytes, None if there is none; raises StorageError."""

    async def prove(self, digest: Digest, size: int) -> int | None:
        """Hash a blob, once for concurrent callers; returns when its bytes were written.

        That is in nanoseconds since the epoch; None if the bytes are wrong, or not `size` many.
        Raises StorageError.
        """

    async def is_current(self, digest: Digest, reader: BlobReader) -> bool:
        """Whether a reader's bytes are those of the blob now, or the blob is gone; else replaced.

        Raises StorageError.
        """

    async def partial(self, digest: Digest, *, isolated: bool = False) -> PartialBlob:
        """Open the partial of a blob, its bytes hashed; an `isolated` one is new, and separate.

        No other partial resumes an isolated one, and a restart removes it. If the caller is
        cancelled, a partial without bytes is removed. Raises StorageError.
        """

    async def write(self, digest: Digest, body: bytes) -> int:
        """Store proven bytes as a blob, in one step that survives a power cut; raises StorageError.

        Returns when its bytes were written, in nanoseconds since the epoch.
        """

    async def delete(
        self,
        blobs: Collection[Digest],
        partials: Collection[Digest] = (),
        quarantined: Collection[Digest] = (),
    ) -> dict[Digest, StorageError]:
        """Remove content; returns the failures. Content that is gone counts as removed.

        Raises StorageError if nothing was begun.
        """

    async def quarantine(self, digest: Digest) -> int | None:
        """Set a wrong blob aside; returns its size in bytes, None if it is gone.

        Raises StorageError.
        """

    async def scan(self) -> list[ListedBlob]:
        """List the blobs, partials and quarantined ones left out; raises StorageError."""

    async def trouble(self) -> str | None:
        """Return a problem that keeps content from being stored, None if there is none.

        It takes less than a second, even if a disk does not answer at all.
        """

    async def probe(self) -> None:
        """Retry a write if the last one failed; raises StorageError if it fails again."""
