"""Received content: taken from a command piece by piece, and stored only if it is proven."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mirror.admin.messages import Absent, Content, OrderError, Piece, Record
from mirror.content.blobs.ingest import Ingest
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository
from mirror.storage.entry import Entry
from mirror.storage.partial_lease import PartialLease
from mirror.storage.store import Store


async def manifest_body(incoming: AsyncIterator[Record], found: Descriptor) -> bytes | None:
    """Return the bytes of a manifest, still unproven; None if it is absent. Raises OrderError."""
    if not await _is_coming(incoming, found.digest, found.size):
        return None
    pieces = [piece async for piece in _pieces(incoming, found.digest, found.size)]
    return b"".join(pieces)


async def receive(
    incoming: AsyncIterator[Record],
    store: Store,
    digest: Digest,
    size: int,
    repository: Repository,
) -> Entry | None:
    """Store a blob of `size` bytes, and link it to a repository; None if it is absent.

    The lease is isolated: a fetch of the same blob is not disturbed. Raises OrderError if the bytes
    are wrong, StorageError.
    """
    if not await _is_coming(incoming, digest, size):
        return None
    lease = store.lease(digest, isolated=True)
    try:
        async with lease:
            await _write(incoming, lease, digest, size)
            return await lease.commit(repository)
    finally:
        lease.close()


async def _write(
    incoming: AsyncIterator[Record], lease: PartialLease, digest: Digest, size: int
) -> None:
    await lease.reserve(size)
    async with Ingest(await lease.open()) as ingest:
        async for data in _pieces(incoming, digest, size):
            ingest.add(data)
            await ingest.keep_up()
        proven = await ingest.proven()
    if not proven:
        raise OrderError(f"{digest} is wrong: its bytes do not match its digest")


async def _is_coming(incoming: AsyncIterator[Record], digest: Digest, size: int) -> bool:
    """Whether the wanted content follows; raises OrderError if its size is another."""
    match await _next(incoming):
        case Absent(digest=found) if found == digest:
            return False
        case Content(digest=found, size=sent) if found == digest:
            if sent != size:
                raise OrderError(f"{digest} has {sent} bytes; its manifest says {size}")
            return True
    raise OrderError("the command sent other content than the wanted one")


async def _pieces(
    incoming: AsyncIterator[Record], digest: Digest, size: int
) -> AsyncIterator[bytes]:
    left = size
    while left:
        piece = await _next(incoming)
        if not isinstance(piece, Piece) or not 0 < piece.length <= left:
            raise OrderError(f"{digest} did not come whole")
        left -= piece.length
        yield piece.data


async def _next(incoming: AsyncIterator[Record]) -> Record:
    record = await anext(incoming, None)
    if record is None:
        raise OrderError("the command ended before it had sent everything")
    return record
