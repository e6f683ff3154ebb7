"""Disk space as values: the files to unlink for more of it, and the use of it by kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mirror.oci.digest import Digest
from mirror.storage.catalog import charged
from mirror.storage.entry import Entry
from mirror.storage.quarantine import Suspect


class Doomed(NamedTuple):
    """Files taken out of the accounting, to be unlinked; `more` if further ones must follow."""

    suspects: dict[Digest, Suspect]
    partials: dict[Digest, int]
    victims: dict[Digest, Entry]
    evicting: bool
    more: bool = False

    @property
    def bytes(self) -> int:
        """The bytes that unlinking them frees."""
        sizes = [suspect.size for suspect in self.suspects.values()]
        sizes += [*self.partials.values(), *(entry.size for entry in self.victims.values())]
        return sum(map(charged, sizes))

    @property
    def told(self) -> str:
        """The number of files of each kind, as text."""
        blobs, partials = len(self.victims), len(self.partials)
        return f"{blobs} blobs, {partials} partials and {len(self.suspects)} quarantined files"

    def __bool__(self) -> bool:
        return bool(self.suspects or self.partials or self.victims)


@dataclass(frozen=True, slots=True)
class Taken:
    """Use of `max_size`, by kind, in bytes.

    `leaving` is out of the accounting, but still on the disk: not unlinked yet, or being read to
    its end.
    """

    kept: int
    partial: int
    promised: int
    index: int
    leaving: int
    quarantine: int

    @property
    def all(self) -> int:
        """The sum."""
        fetched = self.kept + self.partial + self.promised
        return fetched + self.index + self.leaving + self.quarantine
