"""The layout in an archive that arrives once: its content waits in the store, proven and unnamed.

An archive may have its index.json as the last file, so that nothing says before which content an
image needs. Each large file becomes a separate partial, at once: no byte is written twice, the
room for it counts within `max_size`, and a crash leaves nothing. What no image needs is removed.
A file is only hashed if its content is stored already: a second copy would evict other content.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from types import TracebackType
from typing import Self

from mirror.admin.archives.arriving import ArrivingFile, files
from mirror.admin.archives.offered import OLD, offered, without_index
from mirror.admin.messages import OfferedImage, OrderError, OrderInvalid
from mirror.admin.proven_blob import are_proven, store_proven, write_proven, wrong_bytes, wrong_size
from mirror.oci import strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import DigestInvalid
from mirror.oci.layout import INDEX, LayoutInvalid, Root, read_index
from mirror.oci.manifest import MAX_SIZE, Descriptor
from mirror.oci.names import Repository
from mirror.storage.catalog import charged
from mirror.storage.entry import Entry
from mirror.storage.errors import NoRoom
from mirror.storage.partial_lease import PartialLease
from mirror.storage.store import Store
from mirror.storage.stored_blob import Hold
from mirror.util.units import human

_SMALL = 64 * 1024  # bytes of a file that is held in memory
_MOST_HELD = 64 * 1024 * 1024  # bytes of all of these, manifests included
_MOST_LEASES = 20_000
_AHEAD = 16 * 1024 * 1024  # bytes for which room is reserved before they come


class ArchiveSource:
    """An ImportSource: an archive that `read` returns piece by piece, b"" at its end.

    `size` is the archive's in bytes, None if unknown. `name` is for the only image of an archive
    without names. As an async context manager it removes the files that were not
    taken.
    """

    def __init__(
        self, read: Callable[[], Awaitable[bytes]], size: int | None = None, name: str = ""
    ) -> None:
        self._read = read
        self._size = size
        self._name = name
        self._roots: list[Root] = []
        self._is_old = False
        self._small: dict[Digest, bytes] = {}
        self._held = 0  # bytes of these
        self._leases: dict[Digest, PartialLease] = {}
        self._stored: dict[Digest, Hold] = {}  # proven by the archive
        self._wrong: dict[Digest, int] = {}  # bytes of files that their digests do not prove

    def __repr__(self) -> str:
        return f"<ArchiveSource: {len(self._small)} small files, {len(self._leases)} large ones>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for held in self._stored.values():
            held.release()
        for lease in self._leases.values():
            async with lease:  # ends by `keep`, which removes an isolated one
                pass
            lease.close()

    @property
    def reserved(self) -> int:
        """The bytes of room that the large files have, or that their stored content takes."""
        stored = sum(charged(held.entry.size) for held in self._stored.values())
        return stored + sum(lease.reserved for lease in self._leases.values())

    async def images(self, store: Store) -> tuple[OfferedImage, ...]:
        """Read the archive to its end, and return its images; raises OrderError, StorageError."""
        pinned = store.catalog.pinned_bytes  # perhaps the same content: its room is there
        if self._size is not None and not store.fits(max(0, self._size - pinned)):
            raise no_room(self._size, store)
        try:
            async for file in files(self._read):
                await self._take(store, file)
            if not self._roots:
                raise without_index(is_old=self._is_old)
            return offered(self._roots, self._name)
        except LayoutInvalid as error:
            raise OrderInvalid(f"the archive cannot be used: {error}") from None

    async def _take(self, store: Store, file: ArrivingFile) -> None:
        """Take a file that may be of use; raises OrderError, LayoutInvalid, StorageError."""
        digest = _digest_in(file.path)
        if file.path == INDEX:
            if file.size > MAX_SIZE:
                raise LayoutInvalid(f"{INDEX} has more than {MAX_SIZE} bytes")
            self._roots = await strict_json.on_thread(read_index, await file.whole())
        elif digest is None:
            self._is_old |= file.path == OLD
        elif await self._is_small(file):
            self._small[digest] = await file.whole()
            self._held += file.size
        elif not await self._is_stored(store, digest, file):
            await self._write(store, digest, file)

    async def _is_small(self, file: ArrivingFile) -> bool:
        """Whether a file is to be held in memory: each manifest is, and begins as JSON does."""
        if self._held + file.size > _MOST_HELD:
            return False
        return file.size <= _SMALL or (file.size <= MAX_SIZE and await file.peek() == b"{")

    async def _is_stored(self, store: Store, digest: Digest, file: ArrivingFile) -> bool:
        """Whether a file's content is stored: then its bytes are hashed, and it stays on hold.

        Raises LayoutInvalid, StorageError.
        """
        blob = await store.open(digest)
        if blob is None:
            return False
        with closing(blob):
            if blob.entry.size != file.size:
                return False
            self._stored[digest] = store.hold(blob.entry)
        if not await are_proven(store, digest, file.pieces()):
            self._stored.pop(digest).release()
            self._wrong[digest] = file.size
        return True

    async def _write(self, store: Store, digest: Digest, file: ArrivingFile) -> None:
        """Write a large file into a partial; a wrong one matters only if an image needs it."""
        if len(self._leases) >= _MOST_LEASES:
            raise OrderError("too many blobs at once: import fewer images at a time")
        lease = self._leases[digest] = store.lease(digest, isolated=True)
        try:
            proven = await write_proven(lease, _with_room(lease, file))
        except NoRoom:
            raise no_room(file.size, store) from None
        lease.rest()
        if not proven:
            del self._leases[digest]
            self._wrong[digest] = file.size
            await lease.discard()

    async def manifest(self, found: Descriptor) -> bytes | None:
        """Return the bytes of a manifest, still unproven; None if it is absent."""
        self._refuse_wrong(found.digest, found.size)
        if found.digest in self._leases or found.digest in self._stored:
            raise OrderError("too many manifests at once: import fewer images at a time")
        body = self._small.get(found.digest)
        if body is not None and len(body) != found.size:
            raise wrong_size(found.digest, len(body), found.size)
        return body

    async def blob(
        self, store: Store, digest: Digest, size: int, repository: Repository
    ) -> Entry | None:
        """Store a proven blob; None if it is absent."""
        self._refuse_wrong(digest, size)
        body, lease = self._small.get(digest), self._leases.get(digest)
        if body is not None:
            if len(body) != size:
                raise wrong_size(digest, len(body), size)
            return await store_proven(store, digest, size, _once(body), repository)
        if (held := self._stored.get(digest)) is not None:
            return _linked(store, digest, size, held.entry, repository)
        if lease is None:
            return None
        if lease.written != size:
            raise wrong_size(digest, lease.written, size)
        entry = await lease.commit(repository)
        del self._leases[digest]
        lease.close()
        return entry

    def _refuse_wrong(self, digest: Digest, size: int) -> None:
        if (sent := self._wrong.get(digest)) is not None:
            raise wrong_bytes(digest) if sent == size else wrong_size(digest, sent, size)


def no_room(size: int, store: Store) -> OrderError:
    """Return the fault of an import for which there is no room."""
    bound = human(store.max_size)
    return OrderError(f"{human(size)} do not fit in max_size, {bound}: nothing is imported")


def _digest_in(path: str) -> Digest | None:
    """Return the digest of the content at a path of a layout, None for any other path."""
    match path.split("/"):
        case ["blobs", algorithm, hexadecimal]:
            try:
                return Digest.parse(f"{algorithm}:{hexadecimal}")
            except DigestInvalid:
                return None
    return None


def _linked(store: Store, digest: Digest, size: int, entry: Entry, repository: Repository) -> Entry:
    """Link stored content to a repository; raises OrderError if it is gone, or of another size."""
    if entry.size != size:
        raise wrong_size(digest, entry.size, size)
    if store.catalog.get(digest) is not entry:
        raise OrderError(f"{digest} was removed meanwhile; try again")
    store.link(digest, repository)
    return entry


async def _with_room(lease: PartialLease, file: ArrivingFile) -> AsyncIterator[bytes]:
    """Yield the bytes of a file, for which room is reserved as they come.

    A header may claim any size: bytes that never come evict no content. Raises NoRoom.
    """
    async for piece in file.pieces():
        come = file.size - file.left
        if come > lease.reserved:
            await lease.reserve(min(file.size, come + _AHEAD))
        yield piece


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data
