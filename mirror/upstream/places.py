"""Places: so many may do something at a time, shared fairly by those whom it is for."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TypeAlias

Owners: TypeAlias = tuple[str, ...]  # an upstream, a client: each is bounded by itself

# An owner may hold three times what it leaves free: alone three quarters, of two some four
# ninths each, and so on (dynamic thresholds, Choudhury and Hahne 1998). However many come, some
# places stay free, and who holds none has one of them.
_FACTOR = 3
_SPARE = 64  # outdated entries of a queue that are not worth being cleared away


class Places:
    """At most `most` places. Who waits is served first who holds fewest, then in order.

    What one more costs does not depend on how many clients wait: 10,000 of them took 67 s of the
    event loop to be served, when each was looked at for each (measured).
    """

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._held: Counter[str] = Counter()
        self._order = count()
        self._queues: dict[Owners, _Queue] = {}  # by all owners but the last: an upstream's clients

    def __repr__(self) -> str:
        waiting = sum(map(len, self._queues.values()))
        return f"<Places: {self._held.total()} held, {self._free} free, {waiting} waiting>"

    def change(self, most: int) -> None:
        """Have so many places; those that are held beyond that are missing until they are given."""
        self._free += most - self._most
        self._most = most
        self._hand_on()

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
        queue = self._queues.get(owners[:-1])
        if (queue is not None and owners in queue) or not self._may(owners):
            return False
        self._hold(owners)
        return True

    async def take(self, *owners: str) -> None:
        """Wait for a place; `give` is owed."""
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
        """Give a place back, to who waits and holds fewest."""
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
        """Return who is next: of those that may the one that holds fewest, the first of equals.

        Where the first of a queue may not, none of it may: it holds the fewest.
        """
        able: list[tuple[list[int], int, Owners]] = []
        for queue in self._queues.values():
            place, owners = queue.first()
            if self._may(owners):
                able.append(([self._held[each] for each in owners], place, owners))
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
        if queue is not None:  # else it was passed over as it was cancelled
            queue.leave(owners, turn)
            self._tidy(owners[:-1])

    def _tidy(self, others: Owners) -> None:
        if not self._queues[others]:
            del self._queues[others]


class _Line:
    """Who waits on behalf of the same owners, in order; `place` is theirs among their equals.

    `held` is how many places the last of them held when they were listed.
    """

    __slots__ = ("held", "place", "turns")

    def __init__(self, place: int) -> None:
        self.turns: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self.place = place
        self.held = 0


class _Queue:
    """Owners that wait, by how many places the last of them holds: what differs between them.

    They are in a heap. What is outdated is left there, and found to be so when it is first: who
    holds more than when it was listed is listed anew then, who holds fewer at once.
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

    def add(self, owners: Owners, turn: asyncio.Future[None], place: int) -> None:
        """Have one more wait; owners that wait already keep their place."""
        line = self._lines.get(owners)
        if line is None:
            line = self._lines[owners] = _Line(place)
            self._list(owners, line)
        line.turns[turn] = None

    def first(self) -> tuple[int, Owners]:
        """Return the owners that hold fewest, the first of equals, and their place."""
        while True:
            held, place, owners = self._heap[0]
            line = self._lines.get(owners)
            if line is None or (line.held, line.place) != (held, place):
                heappop(self._heap)
            elif held != self._holds(owners):
                self._list(owners, line)
            else:
                return place, owners

    def note(self, owners: Owners) -> None:
        """Note that the last of these may hold fewer than before."""
        line = self._lines.get(owners)
        if line is not None and self._holds(owners) < line.held:
            self._list(owners, line)

    def serve(self, owners: Owners, place: int) -> asyncio.Future[None]:
        """Return whose turn it is of these owners, which have the last place after that."""
        line = self._lines[owners]
        turn, _ = line.turns.popitem(last=False)
        line.place = place
        if line.turns:
            self._list(owners, line)
        else:
            del self._lines[owners]
        return turn

    def leave(self, owners: Owners, turn: asyncio.Future[None]) -> None:
        """Let one wait no longer, if it does."""
        line = self._lines.get(owners)
        if line is not None:
            line.turns.pop(turn, None)
            if not line.turns:
                del self._lines[owners]

    def _holds(self, owners: Owners) -> int:
        return self._held[owners[-1]] if owners else 0

    def _list(self, owners: Owners, line: _Line) -> None:
        line.held = self._holds(owners)
        heappush(self._heap, (line.held, line.place, owners))
        if len(self._heap) > 2 * len(self._lines) + _SPARE:
            self._heap = [(each.held, each.place, of) for of, each in self._lines.items()]
            heapify(self._heap)
