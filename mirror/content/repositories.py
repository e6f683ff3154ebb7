"""Repositories: the names of repositories with stored content, as far as a caller may read them."""

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

from mirror.access.authorizer import Authorizer
from mirror.identity.client import ClientIdentity
from mirror.oci.names import Repository, pulled_as
from mirror.oci.paging import MAX_PAGE, Paging
from mirror.storage.catalog import Catalog
from mirror.util.singleflight import SingleFlight

_RUN = 4096  # names that are sorted in one go: a sort blocks all other threads
_KEPT = 250_000  # names of all cached lists together; a list with more is cached alone
_TIMES = 20  # a list is valid for this multiple of the time that it took
_INSTANT = 0.002  # seconds; a list that took no longer is not cached


class _Key(NamedTuple):
    rules: int  # number of their changes
    identity: str | None
    upstream: str
    own: str


class _Names(NamedTuple):
    names: list[str]
    took: float  # seconds of CPU time of a thread


class _Lists(TLRUCache[_Key, _Names]):
    """The cached lists. Removed ones are in `gone`, to be freed in parts.

    Freeing a million names at once blocks the event loop for a sixth of a second (measured).
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
        """Remove the lists that have expired."""
        left = super().expire(time)
        self.gone += [made.names for _, made in left]
        return left

    def popitem(self) -> tuple[_Key, _Names]:
        """Evict the least recently used list."""
        key, made = super().popitem()
        self.gone.append(made.names)
        return key, made

    async def let_go(self) -> None:
        """Free the removed lists. All pages of them are cut: another list was made since."""
        self.expire()
        while self.gone:
            names = self.gone.pop()
            while names:
                del names[-_RUN:]
                await asyncio.sleep(0)


class Repositories:
    """Lists repositories, in order of their names, a page at a time.

    No upstream is asked: repositories that `access` would ask about are left out. A list is made on
    a thread and cached for all callers with the same key, for 20 times as long as it took: so lists
    take a twentieth of a thread at most, and may be that much older.
    """

    def __init__(
        self,
        catalog: Catalog,
        access: Authorizer,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._access = access
        self._lists = _Lists(timer)
        self._making = asyncio.Lock()  # one list at a time, for all keys
        self._flights: SingleFlight[_Key, list[str]] = SingleFlight()
        self._rules = 0

    def __repr__(self) -> str:
        return f"<Repositories: {len(self._lists)} lists kept>"

    async def close(self) -> None:
        """Cancel all lists that are being made."""
        await self._flights.close()

    def change(self) -> None:
        """Change the rules: no list by the former rules is used again, nor one being made."""
        self._rules += 1

    async def page(
        self, identity: ClientIdentity, upstream: str, own: str, paging: Paging
    ) -> tuple[list[str], Paging | None]:
        """Return a page of names, and the start of the next page, if there is one.

        The names are those of one `upstream`, or of all if it is empty. Each is the name that the
        caller pulls by; a name without an upstream means `own`.
        """
        key = _Key(self._rules, identity.name, upstream, own)
        made = self._lists.get(key)
        if made is None:
            names = await self._flights.join(key, lambda: self._make(key, identity))
        else:
            names = made.names
        count = MAX_PAGE if paging.count is None else paging.count
        begin = bisect_right(names, paging.last)
        found = names[begin : begin + count]
        if not found or begin + count >= len(names):
            return found, None
        return found, Paging(paging.count, (("last", quote(found[-1], safe="/:")),))

    async def _make(self, key: _Key, identity: ClientIdentity) -> list[str]:
        reads = partial(self._access.reads, identity)
        async with self._making:
            await self._lists.let_go()
            held = self._catalog.repositories()
            made = await asyncio.to_thread(_named, held, key.upstream, key.own, reads)
        if made.took > _INSTANT:
            self._lists[key] = made
        return made.names


def _named(
    held: list[Repository], upstream: str, own: str, reads: Callable[[Repository], bool]
) -> _Names:
    """Return the names of the repositories that may be read, in order."""
    began = time.thread_time()
    names = [
        pulled_as(each, own)
        for each in held
        if (not upstream or each.upstream == upstream) and reads(each)
    ]
    runs = (sorted(names[at : at + _RUN]) for at in range(0, len(names), _RUN))
    merged = list(heapq.merge(*runs))
    return _Names(merged, time.thread_time() - began)
