"""The bytes of stored images, and the part of them that no other image needs. For a thread."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet

from mirror.admin.operations.image_names import AllTags
from mirror.admin.operations.parts import charged_for
from mirror.oci.digest import Digest
from mirror.oci.image_name import ImageName
from mirror.oci.names import Repository, Tag
from mirror.storage.catalog import Catalog
from mirror.storage.graph import View
from mirror.storage.nearby import all_manifests, needed_elsewhere


class ImageSizes:
    """Measures images: `parents` has the manifests that lead to each digest, as far as they count.

    Content is needed by another image if another tag means it, if one of its manifests belongs to
    another repository, or if a manifest that is not of the image references it.
    """

    def __init__(
        self,
        view: View,
        tagged: AllTags,
        parents: Mapping[Digest, Collection[Digest]],
        elsewhere: AbstractSet[Digest] = frozenset(),
    ) -> None:
        self._view = view
        self._tagged = tagged
        self._parents = parents
        self._elsewhere = elsewhere

    @classmethod
    def of_all(cls, catalog: Catalog, tagged: AllTags) -> ImageSizes:
        """Prepare to measure all images: every manifest is looked at once."""
        view = View([*dict.fromkeys(all_manifests(catalog))], [], catalog.get)
        return cls(view, tagged, view.parents())

    @classmethod
    def of_some(cls, catalog: Catalog, tagged: AllTags, digests: Iterable[Digest]) -> ImageSizes:
        """Prepare to measure some images."""
        content = View([], [], catalog.get).reach(digests)
        view = View([*content], [], catalog.get)
        return cls(view, tagged, view.parents(), needed_elsewhere(catalog, content))

    def measure(self, image: ImageName, digest: Digest) -> tuple[int, int]:
        """Return the bytes of an image, and the part of them that no other image needs."""
        whole = self._view.reach([digest])
        named = 1 if isinstance(image.reference, Tag) else 0
        shared = self._view.reach(
            each
            for each in whole
            if self._tagged.counts[each] > (named if each == digest else 0)
            or each in self._elsewhere
            or self._is_of_another(each, image.repository)
            or any(parent not in whole for parent in self._parents.get(each, ()))
        )
        return charged_for(self._view, whole), charged_for(self._view, whole - shared)

    def _is_of_another(self, digest: Digest, repository: Repository) -> bool:
        entry = self._view.get(digest)
        if entry is None or entry.media_type is None:
            return False
        return any(link != repository for link in entry.links)
