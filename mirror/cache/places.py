"""Places: so many may do something at a time, shared fairly by those whom it is for."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

Owners: TypeAlias = tuple[str, ...]  # an upstream, a client: each is bounded by itself

# An owner may hold three times what it leaves free: alone three quarters, of two some four
# ninths each, and so on (dynamic thresholds, Choudhury and Hahne 1998). However many come, some
# places stay free, and who holds none has one of them.
_FACTOR = 3


class Places:
    """At most `most` places. Who waits is served first who holds fewest, then in order."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[Owners, deque[asyncio.Future[None]]] = OrderedDict()

    def __repr__(self) -> str:
        waiting = sum(map(len, self._waiting.values()))
        return f"<Places: {self._held.total()} held, {self._free} free, {waiting} waiting>"

    @asynccontextmanager
    async def taken(self, *owners: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it."""
        await self.take(*owners)
        try:
            yield
        finally:
            self.give(*owners)

    def try_take(self, *owners: str) -> bool:
        """Take a place where there is one; `give` is owed then."""
        if owners in self._waiting or not self._may(owners):
            return False
        self._hold(owners)
        return True

    async def take(self, *owners: str) -> None:
        """Wait for a place; `give` is owed."""
        if self.try_take(*owners):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owners, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(*owners)
            else:
                self._forget(owners, turn)
            raise

    def give(self, *owners: str) -> None:
        """Give a place back, to who waits and holds fewest."""
        self._free += 1
        for owner in owners:
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]
        self._hand_on()

    def _hand_on(self) -> None:
        while self._free and (owners := self._next()) is not None:
            turn = self._waiting[owners][0]
            self._forget(owners, turn)
            if not turn.done():
                self._hold(owners)
                turn.set_result(None)

    def _next(self) -> Owners | None:
        """Return who is next: of those that may the one that holds fewest, the first of equals."""
        able = [owners for owners in self._waiting if self._may(owners)]
        return min(able, key=lambda owners: [self._held[each] for each in owners], default=None)

    def _may(self, owners: Owners) -> bool:
        return self._free > 0 and all(
            not self._held[owner] or self._held[owner] + 1 <= _FACTOR * (self._free - 1)
            for owner in owners
        )

    def _hold(self, owners: Owners) -> None:
        self._free -= 1
        self._held.update(owners)

    def _forget(self, owners: Owners, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(owners)
        if queue is None or turn not in queue:  # passed over as it was cancelled
            return
        queue.remove(turn)
        if not queue:
            del self._waiting[owners]
        else:
            self._waiting.move_to_end(owners)
