"""Bodies of blobs, and the body of a stored one."""

from __future__ import annotations

from typing import IO, Protocol

from mirror.content.blobs.sinks import Sink
from mirror.content.outcome import Outcome
from mirror.oci.errors import RegistryError
from mirror.oci.ranges import Span
from mirror.storage.catalog import Entry
from mirror.storage.errors import is_of_disk
from mirror.storage.store import Store


class Body(Protocol):
    """A blob to be sent, of `size` bytes; it must be closed."""

    size: int
    outcome: Outcome
    collapsed: bool

    async def send(self, span: Span, sink: Sink) -> None:
        """Send a span of the blob; raises RegistryError where it cannot be completed."""

    def close(self) -> None:
        """Release the body."""


class StoredBody:
    """A stored blob, safe from eviction until it is closed."""

    outcome = Outcome.HIT
    collapsed = False

    def __init__(self, store: Store, entry: Entry, file: IO[bytes]) -> None:
        self.size = entry.size
        self.file = file
        self.entry = entry
        self._store = store
        entry.readers += 1

    async def send(self, span: Span, sink: Sink) -> None:
        """Hand the file to the sink; after a failure midway it is proven before its next use."""
        try:
            await sink.file(self.file, span.start, span.stop)
        except (OSError, RegistryError) as error:
            if not isinstance(error, OSError) or is_of_disk(error):
                self.entry.changed_at = None
            raise

    def close(self) -> None:
        """Allow eviction again."""
        self._store.close_file(self.file)
        self.entry.readers -= 1
