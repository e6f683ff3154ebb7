"""A fair semaphore: a limited number of places, shared fairly by owners."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TypeAlias

Owners: TypeAlias = tuple[str, ...]  # such as an upstream and a client: each is bounded separately

# An owner may hold three times as many places as it leaves free: three quarters if alone, four
# ninths each of two, and so on (dynamic thresholds, Choudhury and Hahne 1998). With any number of
# owners, some places stay free, and an owner without any gets one of them.
_FACTOR = 3
_SPARE = 64  # stale heap entries to tolerate before rebuilding the heap


class FairSemaphore:
    """At most `most` places. Waiters are served by fewest places held, then in order.

    No operation scans the waiters: with a scan for each, 10,000 of them took 67 s of the event loop
    (measured).
    """

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._held: Counter[str] = Counter()
        self._order = count()
        self._queues: dict[Owners, _Queue] = {}  # by all owners but the last: one per upstream

    def __repr__(self) -> str:
        waiting = sum(map(len, self._queues.values()))
        return f"<FairSemaphore: {self._held.total()} held, {self._free} free, {waiting} waiting>"

    @property
    def half_free(self) -> bool:
        """Whether half of the places stay free after one more is taken."""
        return 2 * (self._free - 1) >= self._most

    def change(self, most: int) -> None:
        """Change the number of places; held places beyond it end as they are given back."""
        self._free += most - self._most
        self._most = most
        self._hand_on()

    @asynccontextmanager
    async def taken(self, *owners: str) -> AsyncIterator[None]:
        """Wait for a place and hold it."""
        await self.take(*owners)
        try:
            yield
        finally:
            self.give(*owners)

    def try_take(self, *owners: str) -> bool:
        """Take a place if one is free; pair with `give` then."""
        queue = self._queues.get(owners[:-1])
        if (queue is not None and owners in queue) or not self._may(owners):
            return False
        self._hold(owners)
        return True

    async def take(self, *owners: str) -> None:
        """Wait for a place; pair with `give`."""
        if self.try_take(*owners):
            return
        turn = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(owners[:-1], _Queue(self._held))
        queue.add(owners, turn, next(self._order))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(*owners)
            else:
                self._forget(owners, turn)
            raise

    def give(self, *owners: str) -> None:
        """Return a place; the waiter that holds fewest gets it."""
        self._free += 1
        for owner in owners:
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]
            for others, queue in self._queues.items():
                queue.note((*others, owner))
        self._hand_on()

    def _hand_on(self) -> None:
        while self._free > 0 and (owners := self._next()) is not None:
            turn = self._queues[owners[:-1]].serve(owners, next(self._order))
            self._tidy(owners[:-1])
            if not turn.done():
                self._hold(owners)
                turn.set_result(None)

    def _next(self) -> Owners | None:
        """Return the allowed owners with the fewest places, the first of equals.

        If the first of a queue is not allowed, none of that queue is: the first holds the fewest.
        """
        able: list[tuple[list[int], int, Owners]] = []
        for queue in self._queues.values():
            rank, owners = queue.first()
            if self._may(owners):
                able.append(([self._held[each] for each in owners], rank, owners))
        return min(able)[2] if able else None

    def _may(self, owners: Owners) -> bool:
        return self._free > 0 and all(
            not self._held[owner] or self._held[owner] + 1 <= _FACTOR * (self._free - 1)
            for owner in owners
        )

    def _hold(self, owners: Owners) -> None:
        self._free -= 1
        self._held.update(owners)

    def _forget(self, owners: Owners, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(owners[:-1])
        if queue is not None:  # otherwise it was skipped as cancelled
            queue.leave(owners, turn)
            self._tidy(owners[:-1])

    def _tidy(self, others: Owners) -> None:
        if not self._queues[others]:
            del self._queues[others]


class _Line:
    """The waiters of the same owners, in order; `rank` is their rank among equals.

    `held` is the number of places that their last owner held when they were listed.
    """

    __slots__ = ("held", "rank", "turns")

    def __init__(self, rank: int) -> None:
        self.turns: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self.rank = rank
        self.held = 0


class _Queue:
    """A priority queue of waiting owners, by the number of places that the last of them holds.

    A heap with lazy deletion: a stale entry is found when it comes first. Owners that hold more
    than when listed are listed again then, owners that hold fewer at once.
    """

    def __init__(self, held: Counter[str]) -> None:
        self._held = held
        self._lines: dict[Owners, _Line] = {}
        self._heap: list[tuple[int, int, Owners]] = []

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __contains__(self, owners: Owners) -> bool:
        return owners in self._lines

    def __len__(self) -> int:
        return sum(len(line.turns) for line in self._lines.values())

    def add(self, owners: Owners, turn: asyncio.Future[None], rank: int) -> None:
        """Add a waiter; owners that are waiting already keep their rank."""
        line = self._lines.get(owners)
        if line is None:
            line = self._lines[owners] = _Line(rank)
            self._list(owners, line)
        line.turns[turn] = None

    def first(self) -> tuple[int, Owners]:
        """Return the owners that hold fewest, the first of equals, with their rank."""
        while True:
            held, rank, owners = self._heap[0]
            line = self._lines.get(owners)
            if line is None or (line.held, line.rank) != (held, rank):
                heappop(self._heap)
            elif held != self._holds(owners):
                self._list(owners, line)
            else:
                return rank, owners

    def note(self, owners: Owners) -> None:
        """Update owners after the last of them may hold fewer than before."""
        line = self._lines.get(owners)
        if line is not None and self._holds(owners) < line.held:
            self._list(owners, line)

    def serve(self, owners: Owners, rank: int) -> asyncio.Future[None]:
        """Remove and return the first waiter of these owners, which move to the last rank."""
        line = self._lines[owners]
        turn, _ = line.turns.popitem(last=False)
        line.rank = rank
        if line.turns:
            self._list(owners, line)
        else:
            del self._lines[owners]
        return turn

    def leave(self, owners: Owners, turn: asyncio.Future[None]) -> None:
        """Remove a waiter, if present."""
        line = self._lines.get(owners)
        if line is not None:
            line.turns.pop(turn, None)
            if not line.turns:
                del self._lines[owners]

    def _holds(self, owners: Owners) -> int:
        return self._held[owners[-1]] if owners else 0

    def _list(self, owners: Owners, line: _Line) -> None:
        line.held = self._holds(owners)
        heappush(self._heap, (line.held, line.rank, owners))
        if len(self._heap) > 2 * len(self._lines) + _SPARE:
            self._heap = [(each.held, each.rank, of) for of, each in self._lines.items()]
            heapify(self._heap)
