"""A walk past all images: in columns, of which the garbage collector has nothing to look through.

As 100,000 objects they would hold the event loop for 40 ms at its next collection (measured).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mirror.admin.operations.image_names import AllTags, ImageNames, Pattern
from mirror.admin.operations.image_sizes import ImageSizes
from mirror.oci.digest import Digest
from mirror.oci.image_name import ImageName
from mirror.oci.names import Reference, Repository
from mirror.storage.catalog import Catalog
from mirror.storage.metadata.rows import TagKey


def _numbers() -> array[int]:
    return array("q")


@dataclass(frozen=True, slots=True)
class ImageWalk:
    """All images in the order of their names: bytes, bytes for each alone, last use (epoch s)."""

    repositories: list[Repository] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    digests: list[Digest] = field(default_factory=list)
    sizes: array[int] = field(default_factory=_numbers)
    alone: array[int] = field(default_factory=_numbers)
    used: array[int] = field(default_factory=_numbers)

    @classmethod
    def past(cls, catalog: Catalog, known: Iterable[tuple[TagKey, Digest]]) -> ImageWalk:
        """Measure all images; `known` are all tags. For a thread: a million blobs take seconds."""
        walk, tagged = cls(), AllTags(known)
        sizes = ImageSizes.of_all(catalog, tagged)
        for image, digest in ImageNames(catalog, tagged, Pattern.parse(None)).following(None):
            size, alone = sizes.measure(image, digest)
            entry = catalog.get(digest)
            walk.repositories.append(image.repository)
            walk.references.append(image.reference)
            walk.digests.append(digest)
            walk.sizes.append(size)
            walk.alone.append(alone)
            walk.used.append(0 if entry is None else entry.used_at)
        return walk

    def image(self, number: int) -> ImageName:
        """Return the name of an image."""
        return ImageName(self.repositories[number], self.references[number])

    def matching(self, pattern: Pattern) -> Iterator[int]:
        """Yield the numbers of the images that match a pattern."""
        here = {each: pattern.repository(each) for each in dict.fromkeys(self.repositories)}
        for number, repository in enumerate(self.repositories):
            if here[repository] and pattern.reference(self.references[number]):
                yield number

    def clear(self) -> None:
        """Free the images: 100,000 of them take some milliseconds."""
        self.repositories.clear()
        self.references.clear()
        self.digests.clear()
