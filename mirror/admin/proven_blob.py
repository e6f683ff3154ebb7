"""A blob of an import: written into a separate partial, and stored once its digest proves it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mirror.admin.messages import OrderError
from mirror.content.blobs.ingest import Ingest
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.entry import Entry
from mirror.storage.partial_lease import PartialLease
from mirror.storage.store import Store


async def store_proven(
    store: Store,
    digest: Digest,
    size: int,
    pieces: AsyncIterator[bytes],
    repository: Repository,
) -> Entry:
    """Store a blob of `size` bytes, and link it to a repository.

    The lease is isolated: a fetch of the same blob is not disturbed. Raises OrderError if the bytes
    are wrong, StorageError.
    """
    lease = store.lease(digest, isolated=True)
    try:
        async with lease:
            await lease.reserve(size)
            if not await write_proven(lease, pieces):
                raise wrong_bytes(digest)
            return await lease.commit(repository)
    finally:
        lease.close()


async def write_proven(lease: PartialLease, pieces: AsyncIterator[bytes]) -> bool:
    """Write bytes into a partial with room; whether they match its digest. Raises StorageError."""
    async with Ingest(await lease.open()) as ingest:
        async for data in pieces:
            ingest.add(data)
            await ingest.keep_up()
        return await ingest.proven()


async def are_proven(store: Store, digest: Digest, pieces: AsyncIterator[bytes]) -> bool:
    """Whether bytes match their digest; they are hashed on a thread, and not written."""
    hasher = digest.hasher()
    async for data in pieces:
        await store.run_read(hasher.update, data)
    return hasher.hexdigest() == digest.hex


def wrong_bytes(digest: Digest) -> OrderError:
    """Return the fault of content that its digest does not prove."""
    return OrderError(f"{digest} is wrong: its bytes do not match its digest")


def wrong_size(digest: Digest, sent: int, announced: int) -> OrderError:
    """Return the fault of content that has other than the announced bytes."""
    return OrderError(f"{digest} has {sent} bytes; its manifest says {announced}")
