"""A stored blob that is open: proven before it is used, and not evicted until it is closed."""

from __future__ import annotations

from mirror.storage.blobs.protocol import BlobReader
from mirror.storage.entry import Entry


class Hold:
    """Keeps a stored blob from eviction until it is released.

    The bytes of a held blob that was removed meanwhile count as leaving until then.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._held = True
        entry.readers += 1

    def __repr__(self) -> str:
        return f"<Hold: {self.entry.size} bytes, held: {self._held}>"

    def release(self) -> None:
        """Allow eviction again; a second call does nothing."""
        if self._held:
            self._held = False
            self.entry.readers -= 1


class StoredBlob:
    """A held blob, open by `reader`; `body` has its bytes, if it was small enough to be read."""

    def __init__(self, entry: Entry, reader: BlobReader, body: bytes | None) -> None:
        self.entry = entry
        self.reader = reader
        self.body = body
        self._hold = Hold(entry)

    def __repr__(self) -> str:
        return f"<StoredBlob: {self.entry.size} bytes>"

    def doubt(self) -> None:
        """Have the blob proven by its hash before its next use, after a failure to read it."""
        self.entry.changed_at = None

    def close(self) -> None:
        """Give the bytes up, and allow eviction again."""
        self.reader.close()
        self._hold.release()
