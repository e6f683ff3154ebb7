"""Tags: what each pointed at, how long that is good, which do not exist. Pure decisions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cachetools import Cache, LRUCache, TTLCache

from mirror.cache.outcome import Why
from mirror.cache.refusals import forget
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Reference, Repository, Tag
from mirror.store.index import Index

_KEPT = 100_000  # tags; the least recently asked for go first
_MISSING_KEPT = 10_000
_AWAITING = 64  # tags that one manifest is awaited for; it arrives for the others all the same
_PAUSE = 5.0  # seconds in which a failing upstream is not asked about the same tag again

TagKey = tuple[Repository, Tag]


@dataclass(slots=True)
class Tagged:
    """What a tag pointed at when upstream said so. Times are of the monotonic clock.

    `before` is what it pointed at while the manifest it points at now has not been fetched, `why`
    the reason for which upstream's word is not newer, if it was asked or spared since.
    """

    found: Descriptor
    checked: float
    ask_again: float
    before: Tagged | None = None
    why: Why | None = None


class Tags:
    """All tags that upstream was asked about. `ttl` and `missing_ttl` are in seconds.

    `timer` never steps; `clock` is the one on the wall, for the index.
    """

    def __init__(
        self,
        index: Index,
        ttl: float,
        missing_ttl: float,
        timer: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._index = index
        index.sources.append(self._tell)
        self._ttl = ttl
        self._timer = timer
        self._clock = clock
        self._tags = _Kept(_KEPT, index)
        # Which tags upstream said point at a manifest that was not here then, and what it said.
        self._awaiting: LRUCache[tuple[Repository, Digest], dict[TagKey, Tagged]] = LRUCache(
            _MISSING_KEPT
        )
        self._missing: TTLCache[tuple[Repository, Reference], str] = TTLCache(
            _MISSING_KEPT, missing_ttl, timer
        )
        self._denied: TTLCache[tuple[Repository, Reference], str] = TTLCache(
            _MISSING_KEPT, missing_ttl, timer
        )

    def __repr__(self) -> str:
        return f"<Tags: {len(self._tags)} known, {len(self._missing)} missing>"

    async def load(self) -> None:
        """Read the index. A tag checked in the future, by a clock since set back, is stale."""
        now, wall = self._timer(), self._clock()
        for upstream, name, tag, digest, media_type, size, at in await self._index.tags():
            age = wall - at if at <= wall else self._ttl
            found = Descriptor(Digest(digest), media_type, size)
            key = (Repository(upstream, name), Tag(tag))
            self._tags[key] = Tagged(found, now - age, now - age + self._ttl)

    def get(self, key: TagKey) -> Tagged | None:
        """Return what is known of a tag, fresh or not."""
        return self._tags.get(key)

    def peek(self, key: TagKey) -> Tagged | None:
        """Return the same, which is no use of it."""
        return self._tags.peek(key)

    def known(self) -> Iterator[tuple[TagKey, Digest]]:
        """Return all tags with what they point at, or pointed at while the new is on its way.

        That is no use of them, and may go on on a thread: the names are those of now.
        """
        return _known(self._tags, list(self._tags))

    def names(self) -> list[TagKey]:
        """Return the names of all tags."""
        return list(self._tags)

    def fresh(self, tagged: Tagged) -> bool:
        """Whether upstream need not be asked: it said so lately, or failed just now."""
        return self._timer() < tagged.ask_again

    def confirmed(self, tagged: Tagged) -> bool:
        """Whether upstream's word is still good, rather than its failure recent."""
        return self._timer() < tagged.checked + self._ttl

    def unconfirmed_for(self, tagged: Tagged) -> float:
        """Return the seconds since upstream said so: for no longer than that it may be wrong."""
        return max(0.0, self._timer() - tagged.checked)

    def age(self, tagged: Tagged) -> int:
        """Return the same in whole seconds, as Age has it."""
        return int(self.unconfirmed_for(tagged))

    def put(self, key: TagKey, found: Descriptor) -> Tagged:
        """Note what upstream just said."""
        now = self._timer()
        old = self._tags.get(key)
        moved = old is not None and old.found.digest != found.digest
        before = (old.before or old) if old and moved else old.before if old else None
        tagged = self._tags[key] = Tagged(found, now, now + self._ttl, before)
        self._missing.pop(key, None)
        self._missing.pop((key[0], found.digest), None)
        awaiting = self._awaiting.setdefault((key[0], found.digest), {})
        awaiting[key] = tagged
        if len(awaiting) > _AWAITING:
            del awaiting[next(iter(awaiting))]
        return tagged

    def arrived(self, repository: Repository, digest: Digest) -> None:
        """Note that a manifest is here: the tags that point at it leave what they were behind.

        A tag that upstream has moved on since has it for what it pointed at before, or goes back to
        it where the newer could not be had. Only now do they go to the index, so that it never
        prefers what cannot be served.
        """
        self._missing.pop((repository, digest), None)
        for key, told in self._awaiting.pop((repository, digest), {}).items():
            tagged = self._tags.get(key)
            if tagged is None:
                continue
            if tagged.found.digest == digest:
                tagged.before = None
            elif not self._overtaken(key, tagged, told):
                continue
            else:
                tagged = told
            self._index.put_tag(*key, tagged.found, int(self._clock()) - self.age(tagged))

    def _overtaken(self, key: TagKey, tagged: Tagged, told: Tagged) -> bool:
        """Put what arrived late in the place of what is older than it, if anything is."""
        here = tagged.before or tagged
        if here.checked >= told.checked:
            return False
        told.before = None
        if tagged.before is not None:
            tagged.before = told
        else:
            told.ask_again, told.why = tagged.ask_again, tagged.why
            self._tags[key] = told
        return True

    def _tell(self) -> Iterator[TagKey]:
        """Tell the index all there is, as it is then: it was lost, and begins anew."""
        for key in self.names():
            newest = self._tags.peek(key)
            if newest is None:
                continue
            awaited = key in self._awaiting.get((key[0], newest.found.digest), ())
            tagged = newest.before if awaited else newest
            if tagged is not None:
                self._index.put_tag(*key, tagged.found, int(self._clock()) - self.age(tagged))
                yield key

    def lost(self, repository: Repository, digest: Digest, why: Why) -> None:
        """Note that a manifest cannot be had: the tags that point at it go back."""
        for key in list(self._awaiting.get((repository, digest), ())):
            tagged = self._tags.get(key)
            if tagged is not None and tagged.found.digest == digest:
                self.revert(key, tagged, why)

    def revert(self, key: TagKey, tagged: Tagged, why: Why) -> None:
        """Go back, for some seconds, to what is here: what the tag points at cannot be had."""
        before = tagged.before
        if before is not None and self._tags.get(key) is tagged:
            self._tags[key] = before
            self.postpone(key, why)

    def postpone(self, key: TagKey, why: Why) -> None:
        """Upstream failed, or is spared: serve what is known for some seconds before it is asked.

        What is held back is good for as long as any tag.
        """
        tagged = self._tags.get(key)
        if tagged is not None:
            pause = max(_PAUSE, self._ttl) if why is Why.SAVING else _PAUSE
            tagged.ask_again = max(tagged.ask_again, self._timer() + pause)
            tagged.why = why

    def awaiting(self, repository: Repository, digest: Digest) -> tuple[Tag, Descriptor] | None:
        """Return a tag that points at a manifest that has not been fetched, and what it is."""
        for key in self._awaiting.get((repository, digest), ()):
            tagged = self._tags.get(key)
            if tagged is not None and tagged.found.digest == digest:
                return key[1], tagged.found
        return None

    def missing(self, repository: Repository, reference: Reference) -> str | None:
        """Return what upstream said if it lately had no such manifest."""
        return self._missing.get((repository, reference))

    def put_missing(self, repository: Repository, reference: Reference, message: str) -> None:
        """Note that upstream has no such manifest."""
        self._missing[repository, reference] = message
        if isinstance(reference, Tag):
            self.drop((repository, reference))

    def denied(self, repository: Repository, reference: Reference) -> str | None:
        """Return what upstream said if it lately denied this manifest."""
        return self._denied.get((repository, reference))

    def put_denied(self, repository: Repository, reference: Reference, message: str) -> None:
        """Note that upstream denies this manifest; what is known of a tag stays."""
        self._denied[repository, reference] = message

    def forget_refusals(self, upstream: str) -> None:
        """Have an upstream be asked again for what it had not, or denied."""
        forget(self._missing, upstream)
        forget(self._denied, upstream)

    def drop(self, key: TagKey) -> None:
        """Forget a tag that upstream denies or no longer has."""
        if self._tags.pop(key, None) is not None:
            self._index.drop_tag(*key)


class _Kept(LRUCache[TagKey, Tagged]):
    """The tags in memory; one that falls out leaves the index too."""

    def __init__(self, maxsize: int, index: Index) -> None:
        super().__init__(maxsize)
        self._index = index

    def peek(self, key: TagKey) -> Tagged | None:
        """Return one without making it the most recently used."""
        return Cache.__getitem__(self, key) if key in self else None

    def popitem(self) -> tuple[TagKey, Tagged]:
        """Evict the least recently used."""
        key, tagged = super().popitem()
        self._index.drop_tag(*key)
        return key, tagged


def _known(kept: _Kept, keys: list[TagKey]) -> Iterator[tuple[TagKey, Digest]]:
    for key in keys:
        try:
            tagged = kept.peek(key)
        except KeyError:  # it went between two looks at it, for this may be a thread
            continue
        if tagged is not None:
            yield key, tagged.found.digest
            if (before := tagged.before) is not None:
                yield key, before.found.digest
