"""Pages of stored images, for `ls`: by name, or from a walk past all images. For a thread."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from mirror.admin.messages import LsOrder, OrderInvalid, StoredImage, StoredImages
from mirror.admin.operations.image_names import AllTags, ImageNames, Pattern
from mirror.admin.operations.image_sizes import ImageSizes
from mirror.admin.operations.image_walk import ImageWalk
from mirror.content.manifests.tags import Tags
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError, shown
from mirror.oci.image_name import ImageName, parse_image
from mirror.oci.names import Repository
from mirror.storage.catalog import Catalog
from mirror.storage.metadata.rows import TagKey
from mirror.util.merge_sort import merge_sorted


class ImagePages(NamedTuple):
    """Makes the page that an order asks for; `pinned` are the pinned images."""

    catalog: Catalog
    tags: Tags
    pinned: frozenset[ImageName]
    order: LsOrder

    def by_name(
        self, known: Iterable[tuple[TagKey, Digest]], total: int | None
    ) -> tuple[StoredImages, float]:
        """Return a page, and the seconds that its total took, if it is not known already."""
        tagged, order = AllTags(known), self.order
        names = ImageNames(self.catalog, tagged, Pattern.parse(order.pattern))
        after = self._after(tagged.tags)
        following = names.following(after)
        found = list(islice(following, None if order.limit is None else order.limit + 1))
        here = found[: order.limit]
        sizes = ImageSizes.of_some(self.catalog, tagged, (digest for _, digest in here))
        rows = [self._row(image, digest, *sizes.measure(image, digest)) for image, digest in here]
        began = time.thread_time()
        total = names.count() if total is None else max(total, len(found))
        return _page(rows, total, len(found) > len(here)), time.thread_time() - began

    def walk(
        self, known: Iterable[tuple[TagKey, Digest]], former: list[ImageWalk]
    ) -> tuple[ImageWalk, float]:
        """Walk past all images; returns the seconds that it took, too. Frees `former` walks."""
        for each in former:
            each.clear()
        began = time.thread_time()
        walk = ImageWalk.past(self.catalog, known)
        return walk, time.thread_time() - began

    def by_rank(self, walk: ImageWalk) -> StoredImages:
        """Return a page of the images of a walk. Raises OrderInvalid."""
        matching = walk.matching(Pattern.parse(self.order.pattern))
        stored = (each for each in matching if self.catalog.get(walk.digests[each]) is not None)
        ranks = walk.sizes if self.order.sort == "bytes" else walk.used
        ordered = merge_sorted(stored, key=lambda number: -ranks[number])
        begin = self._begin(walk, ordered)
        end = len(ordered) if self.order.limit is None else begin + self.order.limit
        rows = [
            self._row(walk.image(each), walk.digests[each], walk.sizes[each], walk.alone[each])
            for each in ordered[begin:end]
        ]
        return _page(rows, len(ordered), end < len(ordered))

    def _begin(self, walk: ImageWalk, ordered: list[int]) -> int:
        after = self._after(walk.repositories)
        if after is None:
            return 0
        for place, number in enumerate(ordered, 1):
            if str(walk.image(number)) == after:
                return place
        raise OrderInvalid(f"no image {shown(after)} is in this list: begin at its first page")

    def _row(self, image: ImageName, digest: Digest, size: int, alone: int) -> StoredImage:
        checked, pinned = self._checked(image), image in self.pinned
        return StoredImage(str(image), digest, size, alone, checked, self._used(digest), pinned)

    def _used(self, digest: Digest) -> int:
        entry = self.catalog.get(digest)
        return 0 if entry is None else entry.used_at

    def _checked(self, image: ImageName) -> int:
        if isinstance(image.reference, Digest):
            return 0
        tagged = self.tags.peek(TagKey(image.repository, image.reference))
        return 0 if tagged is None else self.tags.checked_at(tagged)

    def _after(self, repositories: Iterable[Repository]) -> str | None:
        """Return the full name of the image that the page is behind; raises OrderInvalid."""
        if self.order.after is None:
            return None
        upstreams = self.catalog.upstreams() | {each.upstream for each in repositories}
        try:
            return str(parse_image(self.order.after, upstreams))
        except RegistryError as error:
            raise OrderInvalid(error.message) from None


def _page(rows: list[StoredImage], total: int, more: bool) -> StoredImages:
    return StoredImages(tuple(rows), total, rows[-1].reference if more else None)
