"""`verify`: hashes stored content again, at a limited rate, and removes damaged blobs."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

from mirror.admin.messages import DamagedBlob, Progress, Record, Verified, VerifyOrder
from mirror.admin.operations.parts import OperationParts
from mirror.oci.digest import Digest
from mirror.storage.blobs.protocol import BlobReader
from mirror.storage.entry import Entry
from mirror.storage.errors import Damaged, NotStored, StorageError
from mirror.storage.graph import View
from mirror.util.gc_pause import gc_paused
from mirror.util.rate_limit import BandwidthLimit

_SLICE = 1024 * 1024  # bytes hashed per step on a thread
_LEAST = 4096  # bytes of a step, however low the rate
_TELL_EVERY = 0.1  # seconds


def verify(parts: OperationParts, order: VerifyOrder) -> AsyncGenerator[Record, None]:
    """Yield progress and damaged blobs, and finally the result; raises StorageError."""
    return _Verification(parts, order).run()


class _Verification:
    """One run over a store. Raises StorageError for an error that is no damage of a blob."""

    def __init__(self, parts: OperationParts, order: VerifyOrder) -> None:
        self._store = parts.store
        self._memory = parts.memory
        self._limit = BandwidthLimit(order.rate or 0)
        self._slice = _slice(order.rate)
        self._order = order
        self._chosen: list[tuple[Digest, int]] = []
        self._all_bytes = 0
        self._blobs = 0
        self._expected = 0  # bytes of the blobs before this one, as recorded
        self._bytes = 0
        self._altered = parts.altered
        self._wrong = 0

    async def run(self) -> AsyncGenerator[Record, None]:
        """Yield progress and damaged blobs, and finally the result."""
        choose, view = gc_paused()(_chosen), self._store.catalog.view()
        self._chosen, self._all_bytes = await self._store.run_read(choose, view, self._order)
        reported_at = -math.inf
        for digest in self._altered:
            self._wrong += 1
            yield DamagedBlob(str(digest), "has another size than when it was stored")
        for digest, size in self._chosen:
            entry = self._store.catalog.get(digest)
            if entry is not None:
                async with aclosing(self._hash(digest, entry)) as positions:
                    async for position in positions:
                        now = asyncio.get_running_loop().time()
                        if now >= reported_at + _TELL_EVERY:
                            reported_at = now
                            yield self._progress(position)
                if self._reason:
                    self._wrong += 1
                    yield DamagedBlob(str(digest), self._reason)
            self._expected += size
            self._blobs += 1
        yield self._progress(0)
        yield Verified(self._blobs, self._bytes, self._wrong, self._order.dry)

    def _progress(self, position: int) -> Progress:
        done = min(self._all_bytes, self._expected + position)
        return Progress(self._blobs, len(self._chosen), done, self._all_bytes)

    async def _hash(self, digest: Digest, entry: Entry) -> AsyncGenerator[int, None]:
        """Hash a file, yielding the position; `_reason` is the damage found, or empty."""
        self._reason = ""
        reader: BlobReader | None = None
        try:
            reader = await self._store.open_unproven(digest)
            hasher = digest.hasher()
            position, most = 0, self._slice
            while step := await reader.hash(hasher, position, position + most):
                position += step
                self._bytes += step
                yield position
                self._limit.spend(step)
                await self._limit.wait()
            reason = "" if hasher.hexdigest() == digest.hex else "its bytes do not match its digest"
        except (NotStored, Damaged) as error:  # no other says anything about the blob
            reason = f"cannot be read: {error.reason}"
        try:
            if reason and await self._store.is_current(digest, entry, reader):
                self._reason = reason
                if not self._order.dry:
                    self._memory.drop(digest)
                    await self._store.discard(digest)
        except StorageError as error:
            self._reason += f"; cannot be removed: {error.reason}"
        finally:
            if reader is not None:
                reader.close()


def _slice(rate: int | None) -> int:
    """Return the bytes that are hashed per step: an eighth of a second's at most."""
    return _SLICE if rate is None else min(_SLICE, max(_LEAST, rate // 8))


def _chosen(view: View, order: VerifyOrder) -> tuple[list[tuple[Digest, int]], int]:
    """Choose blobs: a random sample, or all in a stable order. Sizes and their sum are in bytes."""
    chosen = [(digest, entry.size) for digest, entry in view.entries()]
    count = len(chosen)
    if order.percent is not None:
        count = math.ceil(count * order.percent / 100)
    if order.count is not None:
        count = min(count, order.count)
    if count < len(chosen):
        chosen = random.sample(chosen, count)
    return chosen, sum(size for _, size in chosen)
