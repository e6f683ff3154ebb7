"""The room in `max_size` for the images of `warm`: none evicts another one, or content in use.

Content that was used in the last hour stays, too, whether clients used it or a run stored it: a run
takes free room, and that of older content.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain

from mirror.admin.operations.warm_bounds import NotWarmed
from mirror.admin.operations.warm_documents import WantedBlob
from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.storage.catalog import charged
from mirror.storage.entry import Entry
from mirror.storage.graph import View
from mirror.storage.metadata.rows import TagKey
from mirror.storage.store import Store
from mirror.util.units import human

_USED = 3600.0  # seconds since the last use of content that stays
_MOST_OLDER = 10_000  # entries in a row without a use, after which no later one is looked at

Names = AbstractSet[tuple[Repository, Reference]]


class Claims:
    """The blobs that the images of all runs need, each once, in bytes on the disk."""

    def __init__(self) -> None:
        self.bytes = 0
        self.pinned = 0  # bytes of these
        self._sizes: dict[Digest, tuple[int, bool]] = {}
        self._runs: Counter[Digest] = Counter()

    def __repr__(self) -> str:
        return f"<Claims: {len(self._sizes)} blobs, {self.bytes} bytes>"

    def __contains__(self, digest: object) -> bool:
        return digest in self._sizes

    def copy(self) -> Claims:
        """Return a copy, for a dry run: it keeps no room from others."""
        other = Claims()
        other.bytes, other.pinned = self.bytes, self.pinned
        other._sizes, other._runs = self._sizes.copy(), self._runs.copy()
        return other

    def add(self, digest: Digest, size: int, *, pinned: bool) -> None:
        """Add a blob for a run."""
        self._runs[digest] += 1
        if digest not in self._sizes:
            self._sizes[digest] = size, pinned
            self.bytes += size
            self.pinned += size * pinned

    def drop(self, digests: Iterable[Digest]) -> None:
        """Remove the blobs of a run that has ended."""
        for digest in digests:
            self._runs[digest] -= 1
            if not self._runs[digest]:
                del self._runs[digest]
                size, pinned = self._sizes.pop(digest)
                self.bytes -= size
                self.pinned -= size * pinned


@dataclass(frozen=True, slots=True)
class Before:
    """The store as a run finds it: the content of its images, and the bytes that others used."""

    content: AbstractSet[Digest] = frozenset()
    used: int = 0


def look_before(
    view: View,
    known: Iterable[tuple[TagKey, Digest]],
    names: Names,
    claimed: Container[Digest],
    pinned: Callable[[Digest], bool],
) -> Before:
    """Look at the store before a run of these images; for a thread."""
    roots = [digest for key, digest in known if (key.repository, key.tag) in names]
    named = [reference for _, reference in names if isinstance(reference, Digest)]
    content = view.reach([*roots, *named])
    in_use = chain(_used(view.blobs, view, pinned), _used(view.manifests, view, pinned))
    used = sum(
        charged(entry.size)
        for digest, entry in in_use
        if digest not in content and digest not in claimed
    )
    return Before(content, used)


def _used(
    order: Sequence[Digest], view: View, pinned: Callable[[Digest], bool]
) -> Iterator[tuple[Digest, Entry]]:
    """Yield the content that was used lately, apart from pinned content, the last used first.

    Content is in the order of its use, but the times of the last minute's uses are noted later.
    """
    now, older = time.time(), 0
    for digest in reversed(order):
        entry = view.get(digest)
        if entry is None or pinned(digest):
            continue
        if _is_used(entry, now):
            older = 0
            yield digest, entry
        else:
            older += 1
            if older > _MOST_OLDER:
                return


def _is_used(entry: Entry, now: float) -> bool:
    return 0 <= now - entry.used_at < _USED


class Room:
    """The room for the images of one run."""

    def __init__(self, store: Store, claims: Claims) -> None:
        self.before = Before()
        self.needed = 0  # bytes, for the images so far
        self._store = store
        self._claims = claims
        self._own: set[Digest] = set()
        self._own_used = 0  # bytes of `before.used` that are of the run after all
        self.full = False  # an image did not fit beside others

    def __repr__(self) -> str:
        return f"<Room: {self.needed} bytes are needed, {self.limit()} are there>"

    def close(self) -> None:
        """Leave the room to other runs."""
        self._claims.drop(self._own)
        self._own.clear()

    def check(self) -> None:
        """Raise NotWarmed if the images of the run do not fit: no pull is spent on more of them."""
        if self.full:
            raise NotWarmed(
                f"it was not pulled: the images before it do not fit; {self._words(self.limit())}"
            )

    def take(self, blobs: Iterable[WantedBlob], *, pinned: bool = False) -> None:
        """Take room for the blobs of an image; raises NotWarmed if there is too little.

        An image that is `pinned` may take the room of content that was used lately.
        """
        own = {each.digest: charged(each.size) for each in blobs if each.digest not in self._own}
        new = {digest: size for digest, size in own.items() if digest not in self._claims}
        wanted, used = sum(new.values()), self._used_among(new)
        limit = self.limit(pinned=pinned) + self._pinned_among(new) + (0 if pinned else used)
        others = self._claims.bytes
        if others + wanted > limit:
            self.full = self.full or wanted <= limit
            taken = f", and {human(others)} are for other images" if others else ""
            raise NotWarmed(
                f"it does not fit: {human(wanted)} are needed{taken}; {self._words(limit)}"
            )
        self._own_used += used
        self.needed += sum(own.values())
        self._own.update(own)
        for digest, size in own.items():
            self._claims.add(digest, size, pinned=self._store.catalog.is_pinned(digest))

    def limit(self, *, pinned: bool = False) -> int:
        """Return the bytes for all runs beside pinned content, and content in use but for pins."""
        store, taken = self._store, self._store.taken()
        room = store.max_size - taken.index - taken.leaving - store.catalog.pinned_bytes
        return room + self._claims.pinned - (0 if pinned else self._used)

    @property
    def _used(self) -> int:
        return max(0, self.before.used - self._own_used)

    def _words(self, limit: int) -> str:
        pinned = self._store.catalog.pinned_bytes - self._claims.pinned
        beside = [
            f"{human(size)} that {what}"
            for size, what in ((pinned, "are pinned"), (self._used, "were used in the last hour"))
            if size > 0
        ]
        more = f" beside {' and '.join(beside)}" if beside else ""
        return f"max_size, {human(self._store.max_size)}, has room for {human(max(0, limit))}{more}"

    def _used_among(self, new: Iterable[Digest]) -> int:
        return sum(charged(size) for size in map(self._used_size, new))

    def _used_size(self, digest: Digest) -> int:
        """Return the size of a blob that counts as used by others so far, 0 if it does not."""
        entry, catalog = self._store.catalog.get(digest), self._store.catalog
        if entry is None or digest in self.before.content or catalog.is_pinned(digest):
            return 0
        return entry.size if _is_used(entry, time.time()) else 0

    def _pinned_among(self, new: dict[Digest, int]) -> int:
        catalog = self._store.catalog
        return sum(size for digest, size in new.items() if catalog.is_pinned(digest))
