"""Repositories: the names of those of which something is kept, as far as a caller may read them."""

from __future__ import annotations

import asyncio
import heapq
import time
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

from cachetools import TLRUCache

from mirror.cache.access import Access
from mirror.cache.caller import Caller
from mirror.flight import Flights
from mirror.oci.names import Repository, pulled_as
from mirror.oci.paging import MAX_PAGE, Paging
from mirror.store.catalogue import Catalogue

_RUN = 4096  # names that are sorted in one go: no thread runs beside a sort
_KEPT = 250_000  # names of all lists together; one that has more is kept alone
_TIMES = 20  # a list is good for so many times as long as it took
_INSTANT = 0.002  # seconds; what took no longer is made anew each time


class _Key(NamedTuple):
    rules: int  # how many times they were changed
    caller: str | None
    upstream: str
    own: str


class _Names(NamedTuple):
    names: list[str]
    took: float  # seconds of a thread's own time


class _Lists(TLRUCache[_Key, _Names]):
    """The lists that are good. What has left is in `gone`, to be let go of in parts.

    A million names that are freed at once hold the loop for a sixth of a second (measured).
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        super().__init__(
            _KEPT,
            ttu=lambda _, made, now: now + made.took * _TIMES,
            timer=timer,
            getsizeof=lambda made: min(len(made.names) + 1, _KEPT),
        )
        self.gone: list[list[str]] = []

    def expire(self, time: float | None = None) -> list[tuple[_Key, _Names]]:
        """Remove what is good no longer."""
        left = super().expire(time)
        self.gone += [made.names for _, made in left]
        return left

    def popitem(self) -> tuple[_Key, _Names]:
        """Remove the one that was asked for least recently."""
        key, made = super().popitem()
        self.gone.append(made.names)
        return key, made

    async def let_go(self) -> None:
        """Free what has left. Who was given it has long cut a page of it: a list was made since."""
        self.expire()
        while self.gone:
            names = self.gone.pop()
            while names:
                del names[-_RUN:]
                await asyncio.sleep(0)


class Repositories:
    """Lists repositories, in order of their names, a page at a time.

    Nobody is asked for it: what `access` would ask upstream about is left out. A list is made on a
    thread, takes a twentieth of it at most for those who ask the same, and may be that much older.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        access: Access,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue = catalogue
        self._access = access
        self._kept = _Lists(timer)
        self._making = asyncio.Lock()  # one list at a time, whatever is asked for
        self._flights: Flights[_Key, list[str]] = Flights()
        self._rules = 0

    def __repr__(self) -> str:
        return f"<Repositories: {len(self._kept)} lists kept>"

    async def close(self) -> None:
        """Stop what runs."""
        await self._flights.close()

    def change(self) -> None:
        """Have other rules: no list by those before is given any more, nor one being made."""
        self._rules += 1

    async def page(
        self, caller: Caller, upstream: str, own: str, paging: Paging
    ) -> tuple[list[str], Paging | None]:
        """Return a page of names, and where the next begins, if there is more.

        They are those of one `upstream`, or of all where that is empty, and such as a caller pulls
        by to whom the upstream `own` is meant where none is named.
        """
        key = _Key(self._rules, caller.name, upstream, own)
        made = self._kept.get(key)
        if made is None:
            names = await self._flights.join(key, lambda: self._make(key, caller))
        else:
            names = made.names
        count = MAX_PAGE if paging.count is None else paging.count
        begin = bisect_right(names, paging.last)
        found = names[begin : begin + count]
        if not found or begin + count >= len(names):
            return found, None
        return found, Paging(paging.count, (("last", quote(found[-1], safe="/:")),))

    async def _make(self, key: _Key, caller: Caller) -> list[str]:
        reads = partial(self._access.reads, caller)
        async with self._making:
            await self._kept.let_go()
            held = self._catalogue.repositories()
            made = await asyncio.to_thread(_named, held, key.upstream, key.own, reads)
        if made.took > _INSTANT:
            self._kept[key] = made
        return made.names


def _named(
    held: list[Repository], upstream: str, own: str, reads: Callable[[Repository], bool]
) -> _Names:
    """Return the names of those that may be read, in order."""
    began = time.thread_time()
    names = [
        pulled_as(each, own)
        for each in held
        if (not upstream or each.upstream == upstream) and reads(each)
    ]
    runs = (sorted(names[at : at + _RUN]) for at in range(0, len(names), _RUN))
    merged = list(heapq.merge(*runs))
    return _Names(merged, time.thread_time() - began)
