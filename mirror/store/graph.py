"""What points at what: walks over all that is kept, on a thread, that end whatever it is.

Each remembers where it has been, and none calls itself: their time grows with what is kept and with
what is pointed at, whose number has a bound, and not with the ways there are from one to another.
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
    from mirror.store.catalogue import Entry


@dataclass(frozen=True, slots=True)
class View:
    """The digests of what was kept at a moment, and `get`, which returns what is kept of them now.

    It may be used while that changes: an entry's links and children are replaced, never altered.
    """

    manifests: list[Digest]
    blobs: list[Digest]
    get: Callable[[Digest], Entry | None]

    def __iter__(self) -> Iterator[Digest]:
        return chain(self.manifests, self.blobs)

    def entries(self) -> Iterator[tuple[Digest, Entry]]:
        """Return what is still kept of all."""
        for digest in self:
            if (entry := self.get(digest)) is not None:
                yield digest, entry

    def reach(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return what is kept of these and of all that they point at."""
        reached: set[Digest] = set()
        ahead = list(digests)
        while ahead:
            digest = ahead.pop()
            if digest not in reached and (entry := self.get(digest)) is not None:
                reached.add(digest)
                ahead.extend(entry.children)
        return reached

    def needs(self, repository: Repository) -> set[Digest]:
        """Return what a repository holds, and all that leads to."""
        return self.reach(digest for digest, entry in self.entries() if repository in entry.links)

    def parents(self) -> Mapping[Digest, list[Digest]]:
        """Return the kept manifests that point at each digest."""
        parents: defaultdict[Digest, list[Digest]] = defaultdict(list)
        for digest in self.manifests:
            entry = self.get(digest)
            for child in entry.children if entry is not None else ():
                parents[child].append(digest)
        return parents

    def holders(self) -> dict[Digest, frozenset[Repository]]:
        """Return the repositories that hold each kept digest, or a manifest that leads to it."""
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
    """Put digests in an order in which each comes after all that points at it."""
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
