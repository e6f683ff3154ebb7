"""The inventory: the stored images, and the bytes that each takes. Pure, for a thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from mirror.admin.operations.parts import charged_for
from mirror.oci.digest import Digest
from mirror.storage.graph import Images, View
from mirror.storage.metadata.rows import TagKey


@dataclass(frozen=True, slots=True)
class Inventory:
    """The images of a view, and the number of images that need each digest."""

    view: View
    images: Images
    needed: Counter[Digest]

    def sizes(self, digest: Digest) -> tuple[int, int]:
        """Return the bytes stored for an image, and the part of them that no other needs.

        The content of each image is found twice: holding it for all at once takes a gigabyte.
        """
        part = self.view.reach([digest])
        alone = (each for each in part if self.needed[each] == 1)
        return charged_for(self.view, part), charged_for(self.view, alone)


def take_inventory(view: View, images: Images) -> Inventory:
    """Count the images that need each digest."""
    return Inventory(
        view,
        images,
        Counter(chain.from_iterable(view.reach([digest]) for digest in images.values())),
    )


def stored_images(view: View, known: Iterable[tuple[TagKey, Digest]]) -> Images:
    """Return the images that are stored; `known` are all tags."""
    found = view.images(known, view.holders(of_manifests=True))
    return {name: digest for name, digest in found.items() if view.get(digest) is not None}
