"""The plan of an import: the manifests and blobs of the named images, as far as received. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from mirror.admin.messages import ImportedImage, OrderError
from mirror.admin.operations.image_tree import DEEPEST, MOST_TOLD
from mirror.oci.digest import Digest
from mirror.oci.image_name import ImageName
from mirror.oci.manifest import MAX_SIZE, MOST_CHILDREN, Descriptor, Manifest
from mirror.oci.names import Repository
from mirror.oci.pointers import Pointer, Pointers
from mirror.storage.catalog import charged

_MOST_MANIFESTS = 20_000
_MOST_BYTES = 64 * 1024 * 1024  # bytes of manifests, which are in memory until the end
_MOST_BLOBS = 150_000
_MOST_LINKS = 150_000  # references of the images, counted once for each repository
_SOME = 4  # absent blobs that a reason names


@dataclass(slots=True)
class ImagePlan:
    """An image: its name and the descriptor of its manifest."""

    name: ImageName
    found: Descriptor


@dataclass(slots=True)
class _Node:
    """A received manifest, with its references."""

    manifest: Manifest
    pointers: Pointers


@dataclass(slots=True)
class ImportPlan:
    """The images, their manifests and blobs. Sizes are in bytes, as manifests announce them.

    Raises OrderError wherever two documents contradict each other, or a bound is exceeded.
    """

    named: dict[ImageName, ImagePlan] = field(default_factory=dict)
    announced: dict[Digest, Descriptor] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)
    _nodes: dict[Digest, _Node] = field(default_factory=dict)
    _lacking: set[Digest] = field(default_factory=set)
    _ahead: list[Digest] = field(default_factory=list)
    _where: dict[Digest, set[Repository]] = field(default_factory=lambda: defaultdict(set))
    _trees: dict[Digest, list[Manifest]] = field(default_factory=dict)
    _level: int = 0
    _bytes: int = 0
    _links: int = 0

    def add(self, name: ImageName, found: Descriptor) -> None:
        """Add an image."""
        planned = self.named.setdefault(name, ImagePlan(name, found))
        if planned.found.digest != found.digest:
            raise OrderError(f"{name} is named twice, with different digests")
        self._announce(found)

    @property
    def images(self) -> Collection[ImagePlan]:
        """All images."""
        return self.named.values()

    def _announce(self, found: Descriptor) -> None:
        before = self.announced.setdefault(found.digest, found)
        if before.size != found.size:
            raise OrderError(f"{found.digest} is announced with two sizes")
        if before is found:
            self._ahead.append(found.digest)
            self._bytes += found.size
        if len(self.announced) > _MOST_MANIFESTS or self._bytes > _MOST_BYTES:
            raise OrderError("too many manifests at once: import fewer images at a time")

    def wanted_manifests(self) -> list[Digest]:
        """Return the manifests to ask for next, one level of indexes after the other."""
        wanted, self._ahead = self._ahead, []
        self._level += bool(wanted)
        if wanted and self._level > DEEPEST:
            raise OrderError(f"indexes are nested in more than {DEEPEST} levels")
        return wanted

    def take(self, taken: Manifest, found: Pointers) -> None:
        """Add a proven manifest, and its references."""
        if len(found.manifests) + len(found.blobs) > MOST_CHILDREN:
            raise OrderError(f"{taken.descriptor.digest} references more than {MOST_CHILDREN}")
        self._nodes[taken.descriptor.digest] = _Node(taken, found)
        for child in found.manifests:
            if not 0 < child.size <= MAX_SIZE:
                raise OrderError(f"{child.digest} is announced with {child.size} bytes")
            self._announce(Descriptor(child.digest, child.media_type, child.size))
        for blob in found.blobs:
            self._add_blob(blob)

    def _add_blob(self, blob: Pointer) -> None:
        if blob.elsewhere:
            return
        if blob.size < 0:
            raise OrderError(f"{blob.digest} is announced without a size")
        if self.blobs.setdefault(blob.digest, blob.size) != blob.size:
            raise OrderError(f"{blob.digest} is announced with two sizes")
        if len(self.blobs) > _MOST_BLOBS:
            raise OrderError("too many blobs at once: import fewer images at a time")

    def lack(self, digest: Digest) -> None:
        """Note that the layout does not have a manifest or blob."""
        self._lacking.add(digest)

    def bytes_of(self, wanted: Collection[Digest]) -> int:
        """Return the announced bytes of manifests, or of blobs."""
        return sum(self._size(each) for each in wanted)

    def _size(self, digest: Digest) -> int:
        found = self.announced.get(digest)
        return self.blobs[digest] if found is None else found.size

    def room_for(self, wanted: Collection[Digest]) -> int:
        """Return the bytes on a disk for blobs and the received manifests; for a thread."""
        manifests = (node.manifest.descriptor.size for node in self._nodes.values())
        return sum(map(charged, chain(map(self.blobs.__getitem__, wanted), manifests)))

    def locate(self) -> None:
        """Find the repositories of all blobs, once all manifests are there; for a thread.

        Raises OrderError for more links than the event loop can record in a reasonable time.
        """
        for image in self.distinct(self.images):
            for found in self.manifests_of(image):
                references = self._nodes[found.descriptor.digest].pointers
                self._links += 1 + len(references.manifests) + len(references.blobs)
                if self._links > _MOST_LINKS:
                    raise OrderError("too many links at once: import fewer images at a time")
                for blob in references.blobs:
                    self._where[blob.digest].add(image.name.repository)

    @staticmethod
    def distinct(images: Iterable[ImagePlan]) -> Collection[ImagePlan]:
        """Return one image for each manifest in each repository: it may have many tags."""
        return {(each.name.repository, each.found.digest): each for each in images}.values()

    def repositories(self, digest: Digest) -> list[Repository]:
        """Return the repositories that a blob belongs to."""
        return list(self._where[digest])

    def manifests_of(self, image: ImagePlan) -> list[Manifest]:
        """Return the received manifests of an image, children before their parents."""
        root = image.found.digest
        if root not in self._trees:
            self._trees[root] = self._children_first(root)
        return self._trees[root]

    def _children_first(self, root: Digest) -> list[Manifest]:
        found: dict[Digest, Manifest] = {}
        ahead = [(root, False)]  # True: all below it is found
        while ahead:
            digest, is_last = ahead.pop()
            node = self._nodes.get(digest)
            if node is None or digest in found:
                continue
            if is_last:
                found[digest] = node.manifest
                continue
            ahead.append((digest, True))
            ahead.extend((child.digest, False) for child in node.pointers.manifests)
        return list(found.values())

    def reports(self) -> list[tuple[ImagePlan, ImportedImage]]:
        """Report each image, once all content came or is absent; for a thread."""
        roots = {image.found.digest: image for image in self.images}
        found = {digest: self._report(image) for digest, image in roots.items()}
        return [
            (image, replace(found[image.found.digest], name=str(image.name)))
            for image in self.images
        ]

    def _report(self, image: ImagePlan) -> ImportedImage:
        """Report an image: its content, its gaps, or the reason why it cannot be taken in."""
        manifests = self.manifests_of(image)
        found = [self._nodes[each.descriptor.digest].pointers for each in manifests]
        all_blobs = (blob for each in found for blob in each.blobs if not blob.elsewhere)
        needed = {blob.digest: blob.size for blob in all_blobs}
        kept = {digest: size for digest, size in needed.items() if digest not in self._lacking}
        lacking = [digest for digest in needed if digest in self._lacking]
        children = (child for each in found for child in each.manifests if not child.about)
        missing = [each.platform or each.digest for each in children if self._lacks(each.digest)]
        return ImportedImage(
            str(image.name),
            image.found.digest,
            len(manifests) + len(kept),
            sum(each.descriptor.size for each in manifests) + sum(kept.values()),
            tuple(dict.fromkeys(missing))[:MOST_TOLD],
            len(lacking),
            tuple(lacking[:MOST_TOLD]),
            _why_not(image, kept, lacking),
        )

    def _lacks(self, digest: Digest) -> bool:
        return digest in self._lacking


def _why_not(image: ImagePlan, kept: Collection[Digest], lacking: Sequence[Digest]) -> str:
    """Return the reason to refuse an image: with a gap, it would take the place of a whole one."""
    if not kept:
        return f"the layout has nothing of {image.found.digest}"
    if not lacking:
        return ""
    some = ", ".join(lacking[:_SOME])
    return f"the layout lacks {len(lacking)} of its blobs: {some}{', ...' * (len(lacking) > _SOME)}"
