"""Listings: the tags of a repository and the referrers of a digest, kept for a short while."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from cachetools import LRUCache

from mirror.content.listings.known_tags import KnownTags
from mirror.content.listings.referrers import Referrers, ReferrersFinder
from mirror.content.listings.tag_lists import (
    TagList,
    TagLists,
    TagStream,
    behind,
    of_tags,
    paged,
)
from mirror.content.manifests.resolver import ManifestResolver
from mirror.content.outcome import Outcome
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    RegistryError,
    UpstreamFailure,
    UpstreamTimeout,
    UpstreamUnavailable,
    may_pass,
)
from mirror.oci.names import Repository
from mirror.oci.paging import MAX_PAGE, Paging
from mirror.upstream.client import RegistryClient
from mirror.upstream.errors import deadline
from mirror.util.singleflight import SingleFlight

_KEPT = 32 * 1024 * 1024  # bytes of memory
_ENTRY = 1024  # bytes of it for each listing, beside its content

_Key = tuple[object, ...]
# Brings an answer, how many bytes of memory it takes, and for how many seconds it is good.
_Ask = Callable[[], Coroutine[Any, Any, tuple[Any, int, float]]]
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Listed(Generic[A]):
    """A listing, and its outcome; `age` is a stale one's, in seconds.

    One `of_known` lists the tags that clients asked for: there may be more.
    """

    answer: A
    outcome: Outcome
    age: int | None = None
    of_known: bool = False


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Any
    size: int
    checked: float
    until: float


class ListingService:
    """Keeps listings. They are good for `tag_ttl` seconds, and longer when upstream fails.

    The content of a fallback tag, or its absence, is good for `missing_ttl` at most: that there is
    no API may be a mistake. `stale_after` is how long, in seconds, a client waits for upstream with
    an older listing at hand. The listings take `quota` bytes of memory, their keys included: these
    are a client's own text.
    """

    def __init__(
        self,
        registries: dict[str, RegistryClient],
        manifests: ManifestResolver,
        known: KnownTags,
        tag_ttl: float,
        missing_ttl: float,
        stale_after: float,
        timer: Callable[[], float] = time.monotonic,
        quota: int = _KEPT,
    ) -> None:
        self._tag_lists = TagLists(registries)
        self._known = known
        self._referrers = ReferrersFinder(registries, manifests)
        self._tag_ttl = tag_ttl
        self._missing_ttl = min(tag_ttl, missing_ttl)
        self._stale_after = stale_after
        self._timer = timer
        self._listings: LRUCache[_Key, _Kept] = LRUCache(quota, getsizeof=lambda kept: kept.size)
        self._flights: SingleFlight[_Key, Any] = SingleFlight()
        self.left_out = self._tag_lists.left_out

    def __repr__(self) -> str:
        return f"<ListingService: {len(self._listings)} kept, {len(self._flights)} running>"

    async def close(self) -> None:
        """Stop the running questions."""
        await self._flights.close()
        await self._known.close()

    async def tags(
        self, repository: Repository, paging: Paging, client: str
    ) -> Listed[TagList | TagStream]:
        """Return a page of tags, in upstream's order; a stream of them is to be closed.

        Raises NameUnknown, Denied, or UpstreamFailure.
        """
        if paging.count == 0:
            return Listed(of_tags(repository.name, ()), Outcome.HIT)
        if here := self._without_pages(repository, paging):
            return Listed(here, Outcome.HIT)
        try:
            return await self._asked(repository, paging, client)
        except (UpstreamUnavailable, UpstreamTimeout):
            known = await self._known.page(repository, paging)
            if known is None:
                raise
            return Listed(known.page, Outcome.STALE, known.age, of_known=True)

    async def _asked(
        self, repository: Repository, paging: Paging, client: str
    ) -> Listed[TagList | TagStream]:
        """Return upstream's list, a new or a kept one."""

        async def ask() -> tuple[TagList | None, int, float]:
            page = await self._tag_lists.whole(repository, paging)
            return page, 0 if page is None else len(page.body), self._tag_ttl

        key = ("tags", repository, paging)
        listed: Listed[TagList | None] = await self._get(
            key, ask, lambda: self._part_of_whole(repository, paging)
        )
        if listed.answer is None:
            return Listed(await self._tag_lists.stream(repository, paging, client), Outcome.MISS)
        page = paged(listed.answer, repository, paging)
        if page.length != listed.answer.length and not paging.last and key in self._listings:
            self._listings["tags", repository] = self._listings[key]
        return Listed(page, listed.outcome, listed.age)

    def _without_pages(self, repository: Repository, paging: Paging) -> TagList | None:
        """Cut a page from the whole list that upstream sent in the place of one, if that is kept.

        Upstream would send it again for each page.
        """
        kept = self._fresh(("tags", repository))
        if kept is None or paging.count is None or not paging.plain:
            return None
        if behind(kept.answer, paging.last) is None:
            return None
        return paged(kept.answer, repository, paging)

    def _part_of_whole(self, repository: Repository, paging: Paging) -> _Kept | None:
        """Cut a page from a whole list, fresh or not, for when upstream fails."""
        for key in (("tags", repository), ("tags", repository, Paging())):
            kept = self._listings.get(key)
            if kept is None or kept.answer is None or kept.answer.following is not None:
                continue
            if paging.plain and behind(kept.answer, paging.last) is not None:
                count = MAX_PAGE if paging.count is None else paging.count
                page = paged(kept.answer, repository, replace(paging, count=count))
                return replace(kept, answer=page)
        return None

    async def referrers(
        self, repository: Repository, digest: Digest, paging: Paging, client: str
    ) -> Listed[Referrers]:
        """Return the descriptors of the referrers of `digest`; raises UpstreamFailure."""

        async def ask() -> tuple[Referrers, int, float]:
            referrers = await self._referrers.find(repository, digest, paging, client)
            return (
                referrers,
                referrers.memory,
                self._tag_ttl if referrers.api else self._missing_ttl,
            )

        return await self._get(("referrers", repository, digest, paging), ask)

    async def _get(
        self, key: _Key, ask: _Ask, instead: Callable[[], _Kept | None] = lambda: None
    ) -> Listed[Any]:
        """Return a fresh listing, else upstream's, else a kept one or the one `instead`."""
        if fresh := self._fresh(key):
            return Listed(fresh.answer, Outcome.HIT)
        kept = self._listings.get(key) or instead()
        try:
            async with deadline(None if kept is None else self._stale_after):
                answer, memory, good = await self._flights.share(key, ask, may_pass)
        except UpstreamFailure:
            if kept is None:
                raise
            return Listed(kept.answer, Outcome.STALE, int(self._timer() - kept.checked))
        except RegistryError:  # an answer: the older listing is no longer available
            self._listings.pop(key, None)
            raise
        size = _ENTRY + sum(map(_size, key)) + memory
        if size < self._listings.maxsize // 4:
            now = self._timer()
            self._listings[key] = _Kept(answer, size, now, now + good)
        return Listed(answer, Outcome.MISS)

    def _fresh(self, key: _Key) -> _Kept | None:
        kept = self._listings.get(key)
        return kept if kept is not None and self._timer() < kept.until else None


def _size(part: object) -> int:
    """Return how many bytes of memory a part of a key takes."""
    fields = part.fields if isinstance(part, Paging) else ()
    return sys.getsizeof(part) + sum(
        map(sys.getsizeof, (text for field in fields for text in field))
    )
