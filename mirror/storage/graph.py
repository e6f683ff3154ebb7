"""Walks over the references between stored content, on a thread; they always terminate.

Each walk remembers visited digests and uses no recursion: its time grows with the number of entries
and references, which is bounded, and not with the number of paths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from mirror.oci.digest import Digest
from mirror.oci.names import Repository

if TYPE_CHECKING:
    from mirror.storage.catalog import Entry


@dataclass(frozen=True, slots=True)
class View:
    """A snapshot of the stored digests, and `get`, which returns their current entries.

    Safe while the catalogue changes: an entry's links and children are replaced, never mutated.
    """

    manifests: list[Digest]
    blobs: list[Digest]
    get: Callable[[Digest], Entry | None]

    def __iter__(self) -> Iterator[Digest]:
        return chain(self.manifests, self.blobs)

    def entries(self) -> Iterator[tuple[Digest, Entry]]:
        """Return the digests that are still stored, with their entries."""
        for digest in self:
            if (entry := self.get(digest)) is not None:
                yield digest, entry

    def reach(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return the stored digests among these and all that they reference."""
        reached: set[Digest] = set()
        ahead = list(digests)
        while ahead:
            digest = ahead.pop()
            if digest not in reached and (entry := self.get(digest)) is not None:
                reached.add(digest)
                ahead.extend(entry.children)
        return reached

    def needs(self, repository: Repository) -> set[Digest]:
        """Return the digests linked to a repository, and all that they reference."""
        return self.reach(digest for digest, entry in self.entries() if repository in entry.links)

    def parents(self) -> Mapping[Digest, list[Digest]]:
        """Return the stored manifests that reference each digest."""
        parents: defaultdict[Digest, list[Digest]] = defaultdict(list)
        for digest in self.manifests:
            entry = self.get(digest)
            for child in entry.children if entry is not None else ():
                parents[child].append(digest)
        return parents

    def holders(self) -> dict[Digest, frozenset[Repository]]:
        """Return the repositories that contain each digest, directly or through a manifest."""
        parents = self.parents()
        links = {digest: frozenset(entry.links) for digest, entry in self.entries()}
        found: dict[Digest, frozenset[Repository]] = {}
        same: dict[frozenset[Repository], frozenset[Repository]] = {}
        for digest in _parents_first(links, parents):
            above = (found[parent] for parent in parents.get(digest, ()) if parent in found)
            holders = links[digest].union(*above)
            found[digest] = same.setdefault(holders, holders)
        return found


def _parents_first(
    digests: Mapping[Digest, object], parents: Mapping[Digest, list[Digest]]
) -> Iterator[Digest]:
    """Sort digests so that each comes after all manifests that reference it."""
    met: set[Digest] = set()
    for start in digests:
        ahead = [(start, False)]
        while ahead:
            digest, left = ahead.pop()
            if left:
                yield digest
            elif digest not in met and digest in digests:
                met.add(digest)
                ahead.append((digest, True))
                ahead.extend((parent, False) for parent in parents.get(digest, ()))
