"""What was found to be wrong, set aside for whoever wants to know why: pure bookkeeping."""

from __future__ import annotations

from typing import NamedTuple

from mirror.oci.digest import Digest
from mirror.store.catalogue import charged

_DAYS = 7 * 86400  # seconds after which nobody will come to look
_SHARE = 20  # no more than one part in so many of the bound


class Suspect(NamedTuple):
    """A file that was set aside: its size in bytes, and since when, in seconds of the epoch."""

    size: int
    since: int


class Quarantine:
    """The files set aside, the oldest first. `limit` is the bound on all that is kept, in bytes."""

    def __init__(self, limit: int) -> None:
        self._most = limit // _SHARE
        self._suspects: dict[Digest, Suspect] = {}
        self.bytes = 0

    def change(self, limit: int) -> None:
        """Have another bound."""
        self._most = limit // _SHARE

    def __len__(self) -> int:
        return len(self._suspects)

    def __contains__(self, digest: object) -> bool:
        return digest in self._suspects

    def get(self, digest: Digest) -> Suspect | None:
        """Return what is known of a file that was set aside."""
        return self._suspects.get(digest)

    def __repr__(self) -> str:
        return f"<Quarantine: {len(self)} files, {self.bytes} bytes>"

    def add(self, digest: Digest, suspect: Suspect) -> None:
        """Take in a file; an older one of the same name was overwritten by it."""
        self.remove(digest)
        self._suspects[digest] = suspect
        self.bytes += charged(suspect.size)

    def remove(self, digest: Digest) -> Suspect | None:
        """Forget a file."""
        suspect = self._suspects.pop(digest, None)
        if suspect is not None:
            self.bytes -= charged(suspect.size)
        return suspect

    def to_free(self, wanted: int) -> list[Digest]:
        """Return what to remove so that `wanted` bytes come free, or all there is."""
        chosen: list[Digest] = []
        for digest, suspect in self._suspects.items():
            if wanted <= 0:
                break
            chosen.append(digest)
            wanted -= charged(suspect.size)
        return chosen

    def overdue(self, now: float) -> list[Digest]:
        """Return what has been here for long enough, and what is more than a small share."""
        old = [each for each, suspect in self._suspects.items() if suspect.since + _DAYS <= now]
        return list(dict.fromkeys([*old, *self.to_free(self.bytes - self._most)]))
