"""`verify`: hashes stored content again, at a limited rate, and removes damaged blobs."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import IO

from mirror.admin.messages import Damaged, Progress, Record, Verified, VerifyOrder
from mirror.admin.operations.parts import Parts
from mirror.oci.digest import Digest, Hasher
from mirror.storage.catalog import Entry
from mirror.storage.graph import View
from mirror.util.gc_pause import gc_paused
from mirror.util.rate_limit import BandwidthLimit

_SLICE = 1024 * 1024  # bytes hashed per step on a thread
_LEAST = 4096  # bytes of a step, however low the rate
_TELL_EVERY = 0.1  # seconds
# Errors of a damaged disk or file. Any other error, such as a lack of descriptors or of rights,
# says nothing about the blob.
_DAMAGE = {errno.ENOENT, errno.EIO, errno.EISDIR, errno.ENODATA, errno.EUCLEAN, errno.ESTALE}


def verify(parts: Parts, order: VerifyOrder) -> AsyncGenerator[Record, None]:
    """Yield progress and damaged blobs, and finally the result; raises OSError."""
    return _Verification(parts, order).run()


class _Verification:
    """One run over a store. Raises OSError for an error that is no damage of a blob."""

    def __init__(self, parts: Parts, order: VerifyOrder) -> None:
        self._store = parts.store
        self._memory = parts.memory
        self._limit = BandwidthLimit(order.rate or 0)
        self._slice = _slice(order.rate)
        self._order = order
        self._chosen: list[tuple[Digest, int]] = []
        self._all_bytes = 0
        self._blobs = 0
        self._expected = 0  # bytes of the blobs before this one, by the books
        self._bytes = 0
        self._altered = parts.altered
        self._wrong = 0

    async def run(self) -> AsyncGenerator[Record, None]:
        """Yield progress and damaged blobs, and finally the result."""
        choose, view = gc_paused()(_chosen), self._store.catalog.view()
        self._chosen, self._all_bytes = await self._store.run_read(choose, view, self._order)
        told = -math.inf
        for digest in self._altered:
            self._wrong += 1
            yield Damaged(str(digest), "has another size than when it was stored")
        for digest, size in self._chosen:
            entry = self._store.catalog.get(digest)
            if entry is not None:
                async with aclosing(self._hash(digest, entry)) as positions:
                    async for position in positions:
                        now = asyncio.get_running_loop().time()
                        if now >= told + _TELL_EVERY:
                            told = now
                            yield self._progress(position)
                if self._reason:
                    self._wrong += 1
                    yield Damaged(str(digest), self._reason)
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
        file: IO[bytes] | None = None
        try:
            file = (await self._store.open(digest)).file
            hasher = digest.hasher()
            position = 0
            while step := await self._store.run_read(_hash_slice, file, hasher, self._slice):
                position += step
                self._bytes += step
                yield position
                self._limit.spend(step)
                await self._limit.wait()
            reason = "" if hasher.hexdigest() == digest.hex else "its bytes do not match its digest"
        except OSError as error:
            if error.errno not in _DAMAGE:
                raise
            reason = f"cannot be read: {error.strerror}"
        try:
            if reason and await self._still(digest, entry, file):
                self._reason = reason
                if not self._order.dry:
                    self._memory.drop(digest)
                    await self._store.discard(digest)
        except OSError as error:
            self._reason += f"; cannot be removed: {error.strerror}"
        finally:
            if file is not None:
                self._store.close_file(file)

    async def _still(self, digest: Digest, entry: Entry, file: IO[bytes] | None) -> bool:
        """Whether the file that was read is still stored: it may have been evicted and replaced."""
        path = self._store.files.path(digest)
        same = file is None or await self._store.run_read(_is_at, file, path)
        return same and self._store.catalog.get(digest) is entry


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


def _hash_slice(file: IO[bytes], hasher: Hasher, most: int) -> int:
    piece = file.read(most)
    hasher.update(piece)
    return len(piece)


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether a path still leads to this file. A missing file counts as yes: it is damage too."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return True
