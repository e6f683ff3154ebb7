"""Listings: the tags of a repository and the referrers of a digest, kept for a short while."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from mirror.cache.manifests import Manifests, within
from mirror.cache.outcome import Outcome
from mirror.flight import Flights
from mirror.oci import documents, media
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    Denied,
    DigestInvalid,
    ManifestUnknown,
    NameUnknown,
    PageInvalid,
    RegistryError,
    UpstreamFailure,
    UpstreamMisbehaved,
    shown,
)
from mirror.oci.manifest import MAX_SIZE
from mirror.oci.names import Repository, Tag, is_tag
from mirror.upstream.registry import Registry

_KEPT = 32 * 1024 * 1024  # bytes of memory
_ENTRY = 1024  # bytes of it for each listing, beside what was listed
_MAX_PAGES = 20  # of referrers
# A tag, or what registries that page by a token of their own (ECR) write in the place of one.
_LAST = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}", re.ASCII)

_Key = tuple[object, ...]
# Brings an answer, and how many bytes of memory it takes.
_Ask = Callable[[], Coroutine[Any, Any, tuple[Any, int]]]


@dataclass(frozen=True, slots=True)
class TagList:
    """A page of tags; those behind `last` are the next page, if it is not empty."""

    tags: list[str]
    last: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Any
    size: int
    checked: float


class Listings:
    """Asks upstream for listings. They are good for `ttl` seconds, and longer when it fails.

    `patience` is how long, in seconds, one waits for it with an older listing at hand. What is kept
    takes `room` bytes of memory, what it is called included: that is a client's own text.
    """

    def __init__(
        self,
        registries: dict[str, Registry],
        manifests: Manifests,
        ttl: float,
        patience: float,
        timer: Callable[[], float] = time.monotonic,
        room: int = _KEPT,
    ) -> None:
        self._registries = registries
        self._manifests = manifests
        self._ttl = ttl
        self._patience = patience
        self._timer = timer
        self._kept: LRUCache[_Key, _Kept] = LRUCache(room, getsizeof=lambda kept: kept.size)
        self._flights: Flights[_Key, Any] = Flights()

    def __repr__(self) -> str:
        return f"<Listings: {len(self._kept)} kept, {len(self._flights)} running>"

    async def close(self) -> None:
        """Stop what runs."""
        await self._flights.close()

    async def tags(
        self, repository: Repository, count: int | None, last: str
    ) -> tuple[TagList, Outcome]:
        """Return at most `count` tags behind `last`, in lexical order.

        Raises PageInvalid, NameUnknown, Denied, or UpstreamFailure.
        """
        if last and not _LAST.fullmatch(last):
            raise PageInvalid(f"last is {shown(last)}: a tag is wanted, or what a Link had there")
        if count == 0:
            return TagList([]), Outcome.HIT

        async def ask() -> tuple[TagList, int]:
            page = await self._ask_tags(repository, count, last)
            return page, sum(map(sys.getsizeof, (page.tags, *page.tags)))

        return await self._get(("tags", repository, count, last), ask)

    async def referrers(
        self, repository: Repository, digest: Digest, client: str
    ) -> tuple[list[dict[str, Any]], Outcome]:
        """Return the descriptors of what refers to `digest`; raises Denied or UpstreamFailure."""
        key = ("referrers", repository, digest)
        return await self._get(key, lambda: self._ask_referrers(repository, digest, client))

    async def _get(self, key: _Key, ask: _Ask) -> tuple[Any, Outcome]:
        kept = self._kept.get(key)
        if kept is not None and self._timer() < kept.checked + self._ttl:
            return kept.answer, Outcome.HIT
        try:
            async with within(None if kept is None else self._patience):
                answer, memory = await self._flights.join(key, ask)
        except UpstreamFailure:
            if kept is None:
                raise
            return kept.answer, Outcome.STALE
        except RegistryError:  # an answer: what was listed before is not to be had any more
            self._kept.pop(key, None)
            raise
        size = _ENTRY + sum(map(sys.getsizeof, key)) + memory
        if size < self._kept.maxsize // 4:
            self._kept[key] = _Kept(answer, size, self._timer())
        return answer, Outcome.MISS

    async def _ask_tags(self, repository: Repository, count: int | None, last: str) -> TagList:
        """Ask for one page; cut it ourselves where upstream does not page."""
        query = {"n": str(count)} if count else {}
        if last:
            query["last"] = last
        try:
            page = await self._registry(repository).get_page(
                "tags", repository.name, "tags/list", query
            )
        except ManifestUnknown as error:
            raise NameUnknown(error.message) from None
        tags = await documents.aside(_tags, page.body)
        if last in tags:  # an upstream that does not page begins anew each time
            tags = tags[tags.index(last) + 1 :]
        if count and len(tags) > count:
            return TagList(tags[:count], tags[count - 1])
        if page.following and tags:
            following = page.following.get("last", "")
            return TagList(tags, following if _LAST.fullmatch(following) else tags[-1])
        return TagList(tags)

    async def _ask_referrers(
        self, repository: Repository, digest: Digest, client: str
    ) -> tuple[list[dict[str, Any]], int]:
        """Ask for all pages, unfiltered; where upstream has no such API, read the fallback tag.

        What would not fit into an index that clients read is left out. Returns also how many bytes
        of memory it takes.
        """
        found: list[dict[str, Any]] = []
        room, memory = MAX_SIZE, 0
        query: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            try:
                page = await self._registry(repository).get_page(
                    "referrers", repository.name, f"referrers/{digest}", query
                )
            except ManifestUnknown:
                return await self._fallback(repository, digest, client)
            room -= len(page.body)
            if room < 0:
                break
            found += await documents.aside(_descriptors, page.body)
            memory += documents.memory(page.body)
            if not page.following:
                break
            query = page.following
        return found, memory

    async def _fallback(
        self, repository: Repository, digest: Digest, client: str
    ) -> tuple[list[dict[str, Any]], int]:
        """Read the index under a tag that stands in for the API (distribution-spec, 1.1)."""
        tag = Tag.parse(f"{digest.algorithm}-{digest.hex}"[:128])
        try:
            found = await self._manifests.get(repository, tag, client, head=False)
        except (ManifestUnknown, Denied):
            return [], 0
        if found.body is None or found.descriptor.media_type not in media.INDEXES:
            return [], 0
        return await documents.aside(_descriptors, found.body), documents.memory(found.body)

    def _registry(self, repository: Repository) -> Registry:
        return self._registries[repository.upstream]


def _document(body: bytes) -> dict[str, Any]:
    try:
        return documents.read(body)
    except ValueError:
        raise UpstreamMisbehaved("upstream's listing is not a JSON object") from None


def _tags(body: bytes) -> list[str]:
    tags = _document(body).get("tags") or []
    if isinstance(tags, list) and all(isinstance(tag, str) and is_tag(tag) for tag in tags):
        return tags
    raise UpstreamMisbehaved("upstream's list of tags is not understood")


def _descriptors(body: bytes) -> list[dict[str, Any]]:
    manifests = _document(body).get("manifests") or []
    if not isinstance(manifests, list) or not all(map(_is_descriptor, manifests)):
        raise UpstreamMisbehaved("upstream's list of referrers is not understood")
    return manifests


def _is_descriptor(item: object) -> bool:
    """Whether this has what every descriptor has (image-spec, descriptor.md)."""
    if not isinstance(item, dict):
        return False
    digest, media_type, size = (item.get(key) for key in ("digest", "mediaType", "size"))
    try:
        Digest.parse(digest if isinstance(digest, str) else "")
    except DigestInvalid:
        return False
    return isinstance(media_type, str) and type(size) is int and size >= 0
