"""Quarantine: accounting of files that failed verification and are kept for inspection."""

from __future__ import annotations

from typing import NamedTuple

from mirror.oci.digest import Digest
from mirror.storage.catalog import charged

_DAYS = 7 * 86400  # seconds that a file is kept for inspection
_SHARE = 20  # at most 1/20 of the bound


class Suspect(NamedTuple):
    """A quarantined file: size in bytes, and when it was moved, in seconds since the epoch."""

    size: int
    since: int


class Quarantine:
    """The quarantined files, oldest first. `max_size` bounds all stored content, in bytes."""

    def __init__(self, max_size: int) -> None:
        self._most = max_size // _SHARE
        self._suspects: dict[Digest, Suspect] = {}
        self.bytes = 0

    def change(self, max_size: int) -> None:
        """Change the limit."""
        self._most = max_size // _SHARE

    def __len__(self) -> int:
        return len(self._suspects)

    def __contains__(self, digest: object) -> bool:
        return digest in self._suspects

    def get(self, digest: Digest) -> Suspect | None:
        """Return the record of a quarantined file."""
        return self._suspects.get(digest)

    def __repr__(self) -> str:
        return f"<Quarantine: {len(self)} files, {self.bytes} bytes>"

    def add(self, digest: Digest, suspect: Suspect) -> None:
        """Add a file; it has replaced an older one of the same name."""
        self.remove(digest)
        self._suspects[digest] = suspect
        self.bytes += charged(suspect.size)

    def remove(self, digest: Digest) -> Suspect | None:
        """Remove the record of a file."""
        suspect = self._suspects.pop(digest, None)
        if suspect is not None:
            self.bytes -= charged(suspect.size)
        return suspect

    def to_free(self, wanted: int) -> list[Digest]:
        """Return the digests to remove so that `wanted` bytes are freed, all if there are fewer."""
        chosen: list[Digest] = []
        for digest, suspect in self._suspects.items():
            if wanted <= 0:
                break
            chosen.append(digest)
            wanted -= charged(suspect.size)
        return chosen

    def overdue(self, now: float) -> list[Digest]:
        """Return the digests past their time, and the oldest ones beyond the share of the bound."""
        old = [each for each, suspect in self._suspects.items() if suspect.since + _DAYS <= now]
        return list(dict.fromkeys([*old, *self.to_free(self.bytes - self._most)]))
