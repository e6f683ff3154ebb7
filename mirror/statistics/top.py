"""Top lists: the repositories and clients with the most pulls in each hour, counted in bounds."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mirror.storage.errors import in_words
from mirror.storage.metadata.protocol import HistoryMetadata, MetadataError
from mirror.storage.metadata.rows import TopKind, TopRow

_log = logging.getLogger(__name__)

HOUR = 3600  # seconds
LISTED = 50  # names of each kind that an hour keeps
_COUNTED = 400  # names that are counted exactly at a time
_HOURS = 8 * 24  # hours that are kept


class Count(NamedTuple):
    """A name with its pulls and the bytes sent."""

    name: str
    pulls: int
    sent: int


class BoundedCounter:
    """Counts names in bounded memory, after the algorithm "space saving".

    When too many names are counted, the half with the fewest pulls is dropped. Each later name
    starts with the pulls of the largest dropped name. So a count is never too small, and a name
    with many pulls is never missing.
    """

    def __init__(self, most: int = _COUNTED) -> None:
        self._most = most
        self._floor = 0
        self._counts: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def __repr__(self) -> str:
        return f"<BoundedCounter of {len(self)} names>"

    def add(self, name: str, pulls: int, sent: int) -> None:
        """Count pulls of a name, and bytes sent."""
        count = self._counts.get(name)
        if count is None:
            self._begin(name, pulls, sent)
        else:
            count[0] += pulls
            count[1] += sent

    def _begin(self, name: str, pulls: int, sent: int) -> None:
        if len(self._counts) >= self._most:
            kept = sorted(self._counts.items(), key=lambda item: item[1], reverse=True)
            self._floor = kept[self._most // 2][1][0]
            self._counts = dict(kept[: self._most // 2])
        self._counts[name] = [self._floor + pulls, sent]

    def largest(self, most: int) -> list[Count]:
        """Return the names with the most pulls, the largest first."""
        counts = (Count(name, pulls, sent) for name, (pulls, sent) in self._counts.items())
        return sorted(counts, key=lambda count: (-count.pulls, -count.sent, count.name))[:most]


class TopLists:
    """The top lists of each hour, the current one included. Hours are epoch seconds."""

    def __init__(self, index: HistoryMetadata) -> None:
        self._index = index
        self._hours: dict[int, dict[TopKind, list[Count]]] = {}
        self._images = BoundedCounter()
        self._clients = BoundedCounter()
        self._loaded = False

    def __repr__(self) -> str:
        return f"<TopLists of {len(self._hours)} hours>"

    def add(self, image: str, client: str, pulls: int, sent: int) -> None:
        """Count a request: whether it was a pull, and the bytes sent."""
        self._images.add(image, pulls, sent)
        self._clients.add(client, pulls, sent)

    async def load(self) -> None:
        """Read the lists of past hours, once; unreadable lists are lost."""
        if self._loaded:
            return
        self._loaded = True
        self._index.when_lost(self._tell)
        try:
            rows = await self._index.top()
        except MetadataError as error:
            _log.error("the top lists cannot be read, and begin anew: %s", in_words(error))
            return
        for row in rows:
            lists = self._hours.setdefault(row.hour, {})
            lists.setdefault(row.what, []).append(Count(row.name, row.pulls, row.sent))
        for hour in self._hours:
            self._hours[hour] = {
                what: summed(counts, LISTED) for what, counts in self._hours[hour].items()
            }
        self._bound()

    def close_hour(self, hour: int) -> None:
        """Keep the lists of the hour that ends, or in which the mirror stops."""
        if self.save(hour):
            self._hours[hour] = self._lists(hour)
            self._images, self._clients = BoundedCounter(), BoundedCounter()
            self._bound()

    def save(self, hour: int) -> bool:
        """Write the current lists, which a crash would lose; False if they are empty."""
        if not self._images and not self._clients:
            return False
        self._write(hour, self._lists(hour))
        return True

    def _lists(self, hour: int) -> dict[TopKind, list[Count]]:
        """Return the lists of the current hour."""
        before = self._hours.get(hour, {})
        return {
            "image": summed([*before.get("image", ()), *self._images.largest(LISTED)], LISTED),
            "client": summed([*before.get("client", ()), *self._clients.largest(LISTED)], LISTED),
        }

    def _write(self, hour: int, lists: dict[TopKind, list[Count]]) -> None:
        self._index.drop_top(hour)
        for what, counts in lists.items():
            for count in counts:
                self._index.put_top(TopRow(hour, what, *count))

    def _bound(self) -> None:
        for hour in sorted(self._hours)[:-_HOURS]:
            del self._hours[hour]
            self._index.drop_top(hour)

    def _tell(self) -> Iterator[object]:
        for hour in list(self._hours):
            if hour in self._hours:
                self._write(hour, self._hours[hour])
            yield hour

    def counts(self, what: TopKind, since: int, until: int) -> list[Count]:
        """Return the counts of the hours from `since` on, and of the current one.

        They are to be `summed`, on a thread: those of a week take 20 ms.
        """
        counts = [
            count
            for hour, lists in self._hours.items()
            if since <= hour <= until
            for count in lists.get(what, ())
        ]
        current = self._images if what == "image" else self._clients
        return [*counts, *current.largest(LISTED)]


def summed(counts: Iterable[Count], most: int = LISTED) -> list[Count]:
    """Return the largest names, with the sums of their counts."""
    pulls, sent = Counter[str](), Counter[str]()
    for count in counts:
        pulls[count.name] += count.pulls
        sent[count.name] += count.sent
    summed = (Count(name, pulls[name], sent[name]) for name in pulls)
    return sorted(summed, key=lambda count: (-count.pulls, -count.sent, count.name))[:most]
