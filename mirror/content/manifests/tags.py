"""Tags: the digest of each, how long it is fresh, and which do not exist; kept in the index."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cachetools import LRUCache, TTLCache

from mirror.content.manifests.tag_use import TagUse
from mirror.content.outcome import StaleReason
from mirror.content.refusals import forget
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Reference, Repository, Tag
from mirror.storage.metadata.protocol import TagMetadata
from mirror.storage.metadata.rows import TagKey, TagRow
from mirror.util.evicting_cache import EvictingCache

_KEPT = 100_000  # tags; the least recently used are evicted first
_MISSING_KEPT = 10_000
_AWAITING = 64  # tags recorded per awaited manifest; it also arrives for the others
_PAUSE = 5.0  # seconds in which a failing upstream is not asked about the same tag again


@dataclass(slots=True)
class Tagged:
    """A tag's manifest by upstream's last answer. Times are those of the monotonic clock.

    `before` is the previous manifest, while the current one has not been pulled. `why` is the
    reason why the answer is not newer, if upstream was asked or spared since. `use` is shared by
    all answers about one tag.
    """

    found: Descriptor
    checked: float
    ask_again: float
    before: Tagged | None = None
    why: StaleReason | None = None
    use: TagUse = field(default_factory=TagUse, repr=False)


class Tags:
    """All tags that upstream was asked about. `tag_ttl` and `missing_ttl` are in seconds.

    `timer` is monotonic; `clock` is the wall clock, for the index. `moved` is called for
    each tag with its stored manifest, perhaps another one than before.
    """

    def __init__(
        self,
        index: TagMetadata,
        tag_ttl: float,
        missing_ttl: float,
        timer: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
        moved: Callable[[Repository, Tag, Digest], None] = lambda *_: None,
    ) -> None:
        self._index = index
        self._moved = moved
        index.when_lost(self._tell)
        self._tag_ttl = tag_ttl
        self._timer = timer
        self._clock = clock
        self._tags: EvictingCache[TagKey, Tagged] = EvictingCache(_KEPT, on_eviction=index.drop_tag)
        # The tags of each manifest that was not stored when upstream named it, with its answers.
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
        """Read the index. A tag from the future (the clock was set back since) is stale."""
        now, wall = self._timer(), self._clock()
        for row in await self._index.tags():
            age = wall - row.checked_at if row.checked_at <= wall else self._tag_ttl
            self._tags[row.key] = Tagged(row.found, now - age, now - age + self._tag_ttl)

    def get(self, key: TagKey) -> Tagged | None:
        """Return the record of a tag, fresh or not."""
        return self._tags.get(key)

    def peek(self, key: TagKey) -> Tagged | None:
        """Return the record of a tag, without counting as a use of it."""
        return self._tags.peek(key)

    def known(self) -> Iterator[tuple[TagKey, Digest]]:
        """Return all tags with their digests, and the previous digest while the new is not pulled.

        This does not count as a use, and may be iterated on a thread: the names are a snapshot.
        """
        return _known(self._tags, list(self._tags))

    def names(self) -> list[TagKey]:
        """Return the names of all tags."""
        return list(self._tags)

    def may_serve_unasked(self, tagged: Tagged) -> bool:
        """Whether upstream need not be asked: the tag is fresh, or its question is postponed."""
        return self._timer() < tagged.ask_again

    def fresh(self, tagged: Tagged) -> bool:
        """Whether upstream's answer is at most `tag_ttl` old; a recent failure does not count."""
        return self._timer() < tagged.checked + self._tag_ttl

    def unconfirmed_for(self, tagged: Tagged) -> float:
        """Return the seconds since upstream's answer: it has been wrong for no longer than that."""
        return max(0.0, self._timer() - tagged.checked)

    def age(self, tagged: Tagged) -> int:
        """Return the seconds since upstream's answer, whole, as in the Age header."""
        return int(self.unconfirmed_for(tagged))

    def checked_at(self, tagged: Tagged) -> int:
        """Return the time of upstream's answer, in seconds since the epoch."""
        return int(self._clock() - self.unconfirmed_for(tagged))

    def put(self, key: TagKey, found: Descriptor) -> Tagged:
        """Record an answer of upstream's that has just come."""
        now = self._timer()
        old = self._tags.get(key)
        moved = old is not None and old.found.digest != found.digest
        before = (old.before or old) if old and moved else old.before if old else None
        use = TagUse() if old is None else old.use
        tagged = self._tags[key] = Tagged(found, now, now + self._tag_ttl, before, use=use)
        self._missing.pop(key, None)
        self._missing.pop((key.repository, found.digest), None)
        awaiting = self._awaiting.setdefault((key.repository, found.digest), {})
        awaiting[key] = tagged
        if len(awaiting) > _AWAITING:
            del awaiting[next(iter(awaiting))]
        return tagged

    def arrived(self, repository: Repository, digest: Digest) -> None:
        """Record that a manifest is stored: the tags that point at it drop their previous one.

        A tag that upstream has moved since takes it as its previous manifest, or reverts to it if
        the newer one could not be pulled. Tags are written to the index only now, so that the index
        never names a manifest that cannot be served.
        """
        self._missing.pop((repository, digest), None)
        for key, answer in self._awaiting.pop((repository, digest), {}).items():
            tagged = self._tags.get(key)
            if tagged is None:
                continue
            if tagged.found.digest == digest:
                tagged.before = None
            elif not self._overtaken(key, tagged, answer):
                continue
            else:
                tagged = answer
            self._put(key, tagged)
            self._moved(*key, tagged.found.digest)

    def _put(self, key: TagKey, tagged: Tagged) -> None:
        self._index.put_tag(TagRow(key, tagged.found, self.checked_at(tagged)))

    def _overtaken(self, key: TagKey, tagged: Tagged, answer: Tagged) -> bool:
        """Replace a tag's older stored manifest by a late arrival; False if it is not older."""
        stored = tagged.before or tagged
        if stored.checked >= answer.checked:
            return False
        answer.before = None
        if tagged.before is not None:
            tagged.before = answer
        else:
            answer.ask_again, answer.why = tagged.ask_again, tagged.why
            self._tags[key] = answer
        return True

    def _tell(self) -> Iterator[TagKey]:
        """Write all tags to the index, as they are at that time: it was lost, and is rebuilt."""
        for key in self.names():
            newest = self._tags.peek(key)
            if newest is None:
                continue
            awaited = key in self._awaiting.get((key.repository, newest.found.digest), ())
            tagged = newest.before if awaited else newest
            if tagged is not None:
                self._put(key, tagged)
                yield key

    def lost(self, repository: Repository, digest: Digest, why: StaleReason) -> None:
        """Record that a manifest cannot be pulled: the tags that point at it revert."""
        for key in list(self._awaiting.get((repository, digest), ())):
            tagged = self._tags.get(key)
            if tagged is not None and tagged.found.digest == digest:
                self.revert(key, tagged, why)

    def revert(self, key: TagKey, tagged: Tagged, why: StaleReason) -> None:
        """Revert a tag to its stored manifest for some seconds: the new one cannot be pulled."""
        before = tagged.before
        if before is not None and self._tags.get(key) is tagged:
            self._tags[key] = before
            self.postpone(key, why)

    def postpone(self, key: TagKey, why: StaleReason) -> None:
        """Serve a tag's record for some seconds without a question: upstream failed, or is spared.

        If pulls are saved (`StaleReason.SAVING`), that lasts as long as a fresh tag does.
        """
        tagged = self._tags.get(key)
        if tagged is not None:
            pause = max(_PAUSE, self._tag_ttl) if why is StaleReason.SAVING else _PAUSE
            tagged.ask_again = max(tagged.ask_again, self._timer() + pause)
            tagged.why = why

    def misnamed(self, tagged: Tagged) -> None:
        """Record that a HEAD named a digest that the tag does not mean, or cannot be pulled by."""
        tagged.use.leave(self._timer())

    def awaiting(self, repository: Repository, digest: Digest) -> tuple[Tag, Descriptor] | None:
        """Return a tag that points at a manifest not pulled yet, and the manifest's descriptor."""
        for key in self._awaiting.get((repository, digest), ()):
            tagged = self._tags.get(key)
            if tagged is not None and tagged.found.digest == digest:
                return key.tag, tagged.found
        return None

    def missing(self, repository: Repository, reference: Reference) -> str | None:
        """Return upstream's message if it had no such manifest recently."""
        return self._missing.get((repository, reference))

    def put_missing(self, repository: Repository, reference: Reference, message: str) -> None:
        """Record that upstream has no such manifest."""
        self._missing[repository, reference] = message
        if isinstance(reference, Tag):
            self.drop(TagKey(repository, reference))

    def denied(self, repository: Repository, reference: Reference) -> str | None:
        """Return upstream's message if it denied this manifest recently."""
        return self._denied.get((repository, reference))

    def put_denied(self, repository: Repository, reference: Reference, message: str) -> None:
        """Record that upstream denies this manifest; a tag's record stays."""
        self._denied[repository, reference] = message

    def forget_refusals(self, upstream: str) -> None:
        """Forget an upstream's 404s and denials, so that it is asked again."""
        forget(self._missing, upstream)
        forget(self._denied, upstream)

    def drop(self, key: TagKey) -> None:
        """Remove a tag that upstream denies or no longer has."""
        if self._tags.pop(key, None) is not None:
            self._index.drop_tag(key)


def _known(
    tags: EvictingCache[TagKey, Tagged], keys: list[TagKey]
) -> Iterator[tuple[TagKey, Digest]]:
    for key in keys:
        tagged = tags.peek(key)
        if tagged is not None:  # not evicted meanwhile: this may run on a thread
            yield key, tagged.found.digest
            if (before := tagged.before) is not None:
                yield key, before.found.digest
