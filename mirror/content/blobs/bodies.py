"""Bodies of blobs, and the body of a stored one."""

from __future__ import annotations

from typing import Protocol

from mirror.content.blobs.sinks import Sink
from mirror.content.outcome import Outcome
from mirror.oci.errors import RegistryError
from mirror.oci.ranges import Span
from mirror.storage.errors import Damaged
from mirror.storage.stored_blob import StoredBlob


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

    def __init__(self, blob: StoredBlob) -> None:
        self.size = blob.entry.size
        self.entry = blob.entry
        self.reader = blob.reader
        self._blob = blob

    async def send(self, span: Span, sink: Sink) -> None:
        """Hand the blob to the sink; after a failure midway it is proven before its next use."""
        try:
            await sink.blob(self.reader, span.start, span.stop)
        except (Damaged, RegistryError):
            self._blob.doubt()
            raise

    def close(self) -> None:
        """Allow eviction again."""
        self._blob.close()
