"""Known tags: the list of a repository while its upstream fails, in the order of names."""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from mirror.content.listings.tag_lists import TagList, of_tags
from mirror.content.manifests.tags import Tags
from mirror.oci.names import Repository, Tag
from mirror.oci.paging import MAX_PAGE, Paging
from mirror.storage.metadata.rows import TagKey
from mirror.util.singleflight import SingleFlight

_GOOD = 5.0  # seconds; all tags are looked through no more often, at any rate of requests

_ByRepository = Mapping[Repository, list[Tag]]


class Known(NamedTuple):
    """A page of tags, and the most seconds since upstream confirmed one of them."""

    page: TagList
    age: int


class KnownTags:
    """Lists the tags that clients asked for; upstream may have others."""

    def __init__(self, tags: Tags, timer: Callable[[], float] = time.monotonic) -> None:
        self._tags = tags
        self._timer = timer
        self._sorted: _ByRepository = {}
        self._good_until = -math.inf
        self._flights: SingleFlight[None, _ByRepository] = SingleFlight()

    def __repr__(self) -> str:
        return f"<KnownTags of {self._tags!r}>"

    async def close(self) -> None:
        """Stop the running sort."""
        await self._flights.close()

    async def page(self, repository: Repository, paging: Paging) -> Known | None:
        """Return a page, None where no tag of the repository is known.

        A registry's own parameter in the place of `last` means nothing here: the list begins anew.
        """
        own = (await self._all()).get(repository)
        if own is None:
            return None
        count = MAX_PAGE if paging.count is None else paging.count
        last = paging.last if paging.plain else ""
        found = await asyncio.to_thread(_first, own, last, count + 1)
        names = found[:count]
        more = len(found) > count
        following = Paging(paging.count, (("last", names[-1]),)) if more else None
        return Known(of_tags(repository.name, names, following), self._age(repository, names))

    def _age(self, repository: Repository, names: Iterable[Tag]) -> int:
        known = (self._tags.peek(TagKey(repository, tag)) for tag in names)
        return max((self._tags.age(each) for each in known if each is not None), default=0)

    async def _all(self) -> _ByRepository:
        if self._timer() < self._good_until:
            return self._sorted
        return await self._flights.join(None, self._sort)

    async def _sort(self) -> _ByRepository:
        self._sorted = await asyncio.to_thread(_by_repository, self._tags.names())
        self._good_until = self._timer() + _GOOD
        return self._sorted


def _by_repository(names: Iterable[TagKey]) -> dict[Repository, list[Tag]]:
    found: dict[Repository, list[Tag]] = {}
    for repository, tag in names:
        found.setdefault(repository, []).append(tag)
    return found


def _first(tags: Iterable[Tag], last: str, most: int) -> list[Tag]:
    """Return the first `most` tags behind `last`."""
    return heapq.nsmallest(most, (tag for tag in tags if tag > last))
