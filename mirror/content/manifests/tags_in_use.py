"""Tags in use: the tags of repeated requests, in order of when their revalidation is due."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import NamedTuple

from mirror.content.manifests.tag_use import TagUse
from mirror.content.manifests.tags import Tagged, Tags
from mirror.storage.metadata.rows import TagKey

_LEAD = 0.25  # of `tag_ttl`: how long before a tag's end its revalidation is due
_IN_A_ROW = 12  # revalidations of a tag that no client requests in between, at most
_MOST = 10_000  # tags followed of one upstream
_LOOKS = 64  # entries considered in one step: many may have ended while upstream was not asked


class Followed(NamedTuple):
    """A tag that is followed, and when to look at it next; `order` tells equal times apart."""

    due: float
    order: int
    key: TagKey
    use: TagUse


class TagsInUse:
    """Follows the tags that clients request over more than a quarter of `tag_ttl`.

    A tag that no client has requested for `tag_refresh_ahead` seconds is followed no longer. A
    request costs O(1), a revalidation O(log n); no step looks at all tags. `spared` counts, by
    upstream, the times that clients would have waited for a HEAD if no tag were revalidated ahead.
    `timer` is monotonic, in seconds.
    """

    def __init__(
        self,
        tags: Tags,
        tag_ttl: float,
        tag_refresh_ahead: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tags = tags
        self._tag_ttl = tag_ttl
        self._lead = _LEAD * tag_ttl
        self._timer = timer
        self._order = itertools.count()
        self._heaps: defaultdict[str, list[Followed]] = defaultdict(list)
        self.spared: Counter[str] = Counter()
        self.change(tag_refresh_ahead)

    def __repr__(self) -> str:
        return f"<TagsInUse: {sum(map(len, self._heaps.values()))} followed>"

    def change(self, tag_refresh_ahead: float) -> None:
        """Change for how long an unused tag is followed, `tag_ttl` at least; with 0 none is."""
        window = max(tag_refresh_ahead, self._tag_ttl) if tag_refresh_ahead else 0.0
        self._window = min(window, _IN_A_ROW * self._tag_ttl)

    def followed(self, upstream: str) -> int:
        """Return the number of tags of an upstream that are followed."""
        return len(self._heaps.get(upstream, ()))

    def upstreams(self) -> Iterator[str]:
        """Yield the upstreams with a tag to look at now."""
        now = self._timer()
        for upstream, heap in self._heaps.items():
            if heap and heap[0].due <= now:
                yield upstream

    def next_due(self) -> float:
        """Return the seconds until a tag is to be looked at; infinite if none is followed."""
        dues = (heap[0].due for heap in self._heaps.values() if heap)
        return max(0.0, min(dues, default=math.inf) - self._timer())

    def hit(self, key: TagKey, tagged: Tagged) -> None:
        """Note a client's request for a fresh tag, which did not wait for upstream."""
        if not self._window:
            return
        now, use = self._timer(), tagged.use
        if use.last == -math.inf:
            use.unaided_until = tagged.ask_again
        elif now >= use.unaided_until:
            self.spared[key.repository.upstream] += 1
            use.unaided_until = now + self._tag_ttl
        self._note(key, use, now)

    def asked(self, key: TagKey, tagged: Tagged) -> None:
        """Note a client's request for a tag that was not fresh, or was pulled."""
        if self._window:
            now, use = self._timer(), tagged.use
            use.unaided_until = now + self._tag_ttl
            self._note(key, use, now)

    def _note(self, key: TagKey, use: TagUse, now: float) -> None:
        if now - use.last > self._window:
            use.since = now
        use.last = now
        if not use.followed and now - use.since >= self._lead and now >= use.not_before:
            self._follow(key, use)

    def _follow(self, key: TagKey, use: TagUse) -> None:
        heap = self._heaps[key.repository.upstream]
        if len(heap) < _MOST:
            use.followed = True
            heappush(heap, Followed(self._timer(), next(self._order), key, use))

    def take(self, upstream: str) -> Followed | None:
        """Take a tag that is due, to be put back; None if there is none.

        A tag that has ended already is left to the next client's request, so that a backlog never
        delays the tags that can still be revalidated in time.
        """
        heap, now = self._heaps[upstream], self._timer()
        for _ in range(_LOOKS):
            if not heap or heap[0].due > now:
                break
            entry = heappop(heap)
            due = self._due(entry, now)
            if due is None:
                entry.use.followed = False
            elif due <= now:
                return entry
            else:
                heappush(heap, entry._replace(due=due))
        return None

    def _due(self, entry: Followed, now: float) -> float | None:
        """Return when a tag is due; None if it has ended, is not in use, or is another by now."""
        tagged, use = self._tags.peek(entry.key), entry.use
        if tagged is None or tagged.use is not use:
            return None
        if now - use.last > self._window or now < use.not_before:
            return None
        return None if now >= tagged.ask_again else tagged.ask_again - self._lead

    def put_back(self, entry: Followed, pause: float = 0.0) -> None:
        """Follow a tag on, which is looked at again in `pause` seconds at the earliest.

        With 0 that is when a tag that was confirmed now is due.
        """
        pause = pause or self._tag_ttl - self._lead
        due = self._timer() + pause
        heappush(self._heaps[entry.key.repository.upstream], entry._replace(due=due))

    def leave(self, entry: Followed) -> None:
        """Follow a tag no longer, and not again for a while: a HEAD about it does not help."""
        entry.use.followed = False
        entry.use.leave(self._timer())
