"""Uses: when stored content was used last, in memory and in the index."""

from __future__ import annotations

import time

from mirror.oci.digest import Digest
from mirror.storage.catalog import Catalog
from mirror.storage.entry import Entry
from mirror.storage.metadata.protocol import ContentMetadata

_LATELY = 600  # seconds
_AT_ONCE = 1024  # uses that are processed in one step of the event loop
_NOTED_EVERY = 3600  # seconds; after a crash, the order of eviction need not be more exact
_MOST_UNNOTED = 100_000  # uses that a stop passes to the index


class Uses:
    """The last uses of stored content. The index learns of them once an hour, and at a stop.

    Otherwise hot content would be written every minute.
    """

    def __init__(self, index: ContentMetadata, catalog: Catalog) -> None:
        self._index = index
        self._catalog = catalog
        self._touched: set[Digest] = set()
        self._unnoted: set[Digest] = set()  # used again, less than an hour after the noted use

    def __repr__(self) -> str:
        return f"<Uses: {len(self._touched)} to be dated, {len(self._unnoted)} to be noted>"

    def add(self, digest: Digest) -> None:
        """Record a use in memory."""
        self._catalog.touch(digest)
        self._touched.add(digest)

    def forget(self, digest: Digest) -> None:
        """Drop the uses of content that leaves."""
        self._touched.discard(digest)
        self._unnoted.discard(digest)

    def lately(self, digest: Digest) -> bool:
        """Whether content was used in the last ten minutes."""
        entry = self._catalog.get(digest)
        age = time.time() - entry.used_at if entry is not None else _LATELY
        return digest in self._touched or 0 <= age < _LATELY

    def date(self) -> bool:
        """Date a batch of uses, and pass the due ones to the index; returns whether more wait."""
        now = int(time.time())
        for _ in range(min(_AT_ONCE, len(self._touched))):
            digest = self._touched.pop()
            if entry := self._catalog.get(digest):
                entry.used_at = now
                if not 0 <= now - entry.noted_at < _NOTED_EVERY:
                    self._note(digest, entry)
                elif len(self._unnoted) < _MOST_UNNOTED:
                    self._unnoted.add(digest)
        return bool(self._touched)

    def note_last(self) -> bool:
        """Pass a batch of dated uses to the index that were not due; returns whether more wait.

        Beyond 100,000, the index keeps the uses that it has, of up to an hour before.
        """
        for _ in range(min(_AT_ONCE, len(self._unnoted))):
            digest = self._unnoted.pop()
            if entry := self._catalog.get(digest):
                self._note(digest, entry)
        return bool(self._unnoted)

    def _note(self, digest: Digest, entry: Entry) -> None:
        entry.noted_at = entry.used_at
        self._unnoted.discard(digest)
        self._index.touch(digest, entry.used_at)
