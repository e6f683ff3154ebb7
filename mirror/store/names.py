"""Names: one lock per digest for whatever names, renames or unlinks its file."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from mirror.oci.digest import Digest


class Names:
    """Locks that are there for as long as somebody holds one or waits for it.

    The reason for taking a file from its name is to be looked at again inside.
    """

    def __init__(self) -> None:
        self._locks: dict[Digest, asyncio.Lock] = {}
        self._users: Counter[Digest] = Counter()

    def __len__(self) -> int:
        return len(self._locks)

    def __repr__(self) -> str:
        return f"<Names: {len(self)} in hand>"

    @asynccontextmanager
    async def held(self, digests: Iterable[Digest]) -> AsyncIterator[None]:
        """Hold all of these, taken in one order by everybody, so that no two wait in a circle."""
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
