"""The graph of references between stored content: images, repositories and manifests need it.

All walks are for a thread, and always terminate: each remembers visited digests and uses no
recursion. Its time grows with the number of entries and references, which is bounded, and not with
the number of paths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.blobs.protocol import ListedBlob
from mirror.storage.entry import Entry

# Tags, by repository and name, with the manifests that they point at.
Tagged = Iterable[tuple[tuple[Repository, str], Digest]]
# The manifest of each image, by repository and tag, or by repository and digest without a tag.
Images = dict[tuple[Repository, str], Digest]


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

    def holders(self, *, of_manifests: bool = False) -> dict[Digest, frozenset[Repository]]:
        """Return the repositories that contain each digest, directly or through a manifest.

        Those of manifests alone take a quarter of the time.
        """
        parents = self.parents()
        links = {
            digest: frozenset(entry.links)
            for digest in (self.manifests if of_manifests else self)
            if (entry := self.get(digest)) is not None
        }
        found: dict[Digest, frozenset[Repository]] = {}
        same: dict[frozenset[Repository], frozenset[Repository]] = {}
        for digest in _parents_first(links, parents):
            above = (found[parent] for parent in parents.get(digest, ()) if parent in found)
            holders = links[digest].union(*above)
            found[digest] = same.setdefault(holders, holders)
        return found

    def needed_outside(
        self, image: set[Digest], repository: Repository, tagged: Iterable[Digest]
    ) -> set[Digest]:
        """Return the content of a repository's image that is needed without the image.

        It is needed by other `tagged` manifests, by manifests that are not of the image, and by
        other repositories that an image's manifest is linked to. A blob is needed by manifests
        only: the repository that it came from says nothing.
        """
        anchors = image.intersection(tagged)
        for digest in image:
            entry = self.get(digest)
            links = entry.links if entry is not None and entry.media_type is not None else ()
            if any(link != repository for link in links):
                anchors.add(digest)
        for digest in self.manifests:
            entry = self.get(digest)
            if entry is not None and digest not in image:
                anchors.update(image.intersection(entry.children))
        return self.reach(anchors)

    def needed_inside(
        self, image: set[Digest], repository: Repository, tagged: Iterable[Digest]
    ) -> set[Digest]:
        """Return the content that a repository needs without an image of its.

        It is needed by the repository's other `tagged` manifests, and by all its manifests that are
        not of the image.
        """
        held = self.needs(repository)
        rest = [digest for digest in self.manifests if digest in held and digest not in image]
        return self.reach([*tagged, *rest])

    def needed_since(self, seen: AbstractSet[Digest]) -> set[Digest]:
        """Return the content that manifests need that are not among the `seen` ones."""
        return self.reach(digest for digest in self.manifests if digest not in seen)

    def images(self, tags: Tagged, holders: Mapping[Digest, AbstractSet[Repository]]) -> Images:
        """Return the images: tags, and manifests that neither a tag nor a manifest leads to.

        `holders` are those of all content, or of all manifests.
        """
        images: Images = {}
        reached: defaultdict[Repository, list[Digest]] = defaultdict(list)
        for (repository, tag), digest in tags:
            images[repository, tag] = digest
            reached[repository].append(digest)
        parents = self.parents()
        tagged = {repository: self.reach(digests) for repository, digests in reached.items()}
        for digest, repositories in holders.items():
            entry = self.get(digest)
            if entry is None or entry.media_type is None:
                continue
            for repository in repositories:
                above = parents.get(digest, ())
                inner = any(repository in holders.get(parent, ()) for parent in above)
                if not inner and digest not in tagged.get(repository, ()):
                    images[repository, digest] = digest
        return images


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


class Differences(NamedTuple):
    """`lost` entries have no blob of their size; `unknown` blobs, by size in bytes, no entry."""

    lost: dict[Digest, Entry]
    unknown: dict[Digest, int]


def differences(
    before: Mapping[Digest, Entry],
    found: Iterable[ListedBlob],
    get: Callable[[Digest], Entry | None],
) -> Differences:
    """Compare the entries before a listing with the blobs that it found; `get` returns an entry.

    Content that was there before the listing, and is unchanged after it, should have been found.
    """
    sizes = {each.digest: each.size for each in found}
    lost = {digest: entry for digest, entry in before.items() if sizes.get(digest) != entry.size}
    unknown = {digest: size for digest, size in sizes.items() if get(digest) is None}
    return Differences(lost, unknown)
