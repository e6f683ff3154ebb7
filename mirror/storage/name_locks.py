"""Locks by name: one per digest, held while its file is created, renamed or unlinked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from mirror.oci.digest import Digest


class NameLocks:
    """Locks that exist only while they are held or waited for.

    A reason to unlink a file must be checked again under its lock.
    """

    def __init__(self) -> None:
        self._locks: dict[Digest, asyncio.Lock] = {}
        self._users: Counter[Digest] = Counter()

    def __len__(self) -> int:
        return len(self._locks)

    def __repr__(self) -> str:
        return f"<NameLocks: {len(self)} in hand>"

    @asynccontextmanager
    async def held(self, digests: Iterable[Digest]) -> AsyncIterator[None]:
        """Hold the locks of all digests; acquiring them in sorted order rules out deadlock."""
        order = sorted(set(digests))
        self._users.update(order)
        taken: list[asyncio.Lock] = []
        try:
            for digest in order:
                lock = self._locks.setdefault(digest, asyncio.Lock())
                await lock.acquire()
                taken.append(lock)
            yield
        finally:
            for lock in taken:
                lock.release()
            self._let_go(order)

    def _let_go(self, order: Iterable[Digest]) -> None:
        for digest in order:
            self._users[digest] -= 1
            if not self._users[digest]:
                del self._users[digest]
                self._locks.pop(digest, None)
