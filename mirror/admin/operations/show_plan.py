"""The stored content of an image or a repository, by the catalogue alone. Pure, for a thread."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice

from mirror.admin.messages import ImageTag, NotStored, ShownImage
from mirror.admin.operations.inventory import Inventory, stored_images, take_inventory
from mirror.admin.operations.parts import charged_for
from mirror.content.manifests.tags import Tags
from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.errors import shown
from mirror.oci.image_name import ImageName, parse_target
from mirror.oci.names import Repository, Tag
from mirror.storage.catalog import Catalog
from mirror.storage.graph import View
from mirror.storage.metadata.rows import TagKey
from mirror.storage.nearby import untagged, view_around
from mirror.util.plain_text import plain

MOST_PLATFORMS = 64  # manifests of an index that are read
_MOST_ARTIFACTS = 256  # manifests that are read to find those about an image
_MOST_PARENTS = 256
_LARGEST_ARTIFACT = 64 * 1024  # bytes
# Names of tags that cosign writes, and that the distribution specification gives to a list of
# referrers: `sha256-HEX.sig`.
_ATTACHED = {
    "": "list of referrers",
    ".sig": "cosign signature",
    ".att": "cosign attestation",
    ".sbom": "cosign SBOM",
}


@dataclass(frozen=True, slots=True)
class ShowPlan:
    """An image, as far as the catalogue knows it, and the documents that know the rest.

    `sizes` has the bytes, and the bytes for it alone, of each manifest of the image; `sharing` the
    number of other images that need each digest. `named` are stored manifests that a tag's name
    attaches, with that name's meaning; `artifacts` are manifests that may be about the image.
    """

    image: ShownImage
    sizes: dict[Digest, tuple[int, int]]
    sharing: dict[Digest, int]
    named: tuple[tuple[Digest, str], ...]
    artifacts: tuple[Digest, ...]


def plan_show(
    text: str,
    catalog: Catalog,
    tags: Tags,
    names: list[TagKey],
    pinned: frozenset[ImageName],
) -> ShowPlan | ShownImage:
    """Parse the operator's target and look it up; a repository needs no document.

    `names` are all tags, `pinned` the pinned images. Raises OrderError if nothing of the target is
    stored, NameInvalid, TagInvalid, or DigestInvalid.
    """
    known = dict(_known(catalog, tags, names))
    upstreams = catalog.upstreams() | {key.repository.upstream for key in known}
    target = parse_target(text, upstreams)
    look = _Look(catalog, tags, known, pinned)
    if isinstance(target, Repository):
        return look.repository(target)
    if isinstance(target, Digest):
        entry = catalog.get(target)
        where = sorted(entry.links, key=str) if entry is not None and entry.media_type else ()
        if not where:
            raise _nothing_of(target)
        target = ImageName(where[0], target)
    return look.image(target)


def _known(catalog: Catalog, tags: Tags, names: list[TagKey]) -> Iterator[tuple[TagKey, Digest]]:
    """Yield the tags of stored manifests: of a tag that moved, the manifest that is stored."""
    for key in names:
        tagged = tags.peek(key)
        for each in (tagged, tagged.before) if tagged is not None else ():
            if each is not None and catalog.get(each.found.digest) is not None:
                yield key, each.found.digest
                break


class _Look:
    """A look at stored content with its tags."""

    def __init__(
        self,
        catalog: Catalog,
        tags: Tags,
        known: dict[TagKey, Digest],
        pinned: frozenset[ImageName],
    ) -> None:
        self._catalog = catalog
        self._tags = tags
        self._known = known
        self._pinned = pinned

    def repository(self, repository: Repository) -> ShownImage:
        """Return a repository with its tags; raises OrderError if nothing of it is stored."""
        view = self._around(self._catalog.holdings.digests(repository))
        held = view.holders()
        mine = [digest for digest, where in held.items() if repository in where]
        if not mine:
            raise _nothing_of(repository)
        tags = [self._tag(key) for key in self._known if key.repository == repository]
        entries = filter(None, map(view.get, mine))
        return ShownImage(
            reference=str(repository),
            repository=str(repository),
            digest="",
            media_type="",
            bytes=charged_for(view, mine),
            alone=charged_for(view, (each for each in mine if len(held[each]) == 1)),
            checked=max((tag.checked for tag in tags), default=0),
            used=max((entry.used_at for entry in entries), default=0),
            pinned=any(tag.pinned for tag in tags),
            tags=tuple(sorted(tags, key=lambda tag: tag.tag)),
            platforms=(),
            parents=(),
            attached=(),
            untagged=tuple(sorted(self._untagged(repository))),
        )

    def image(self, image: ImageName) -> ShowPlan:
        """Return an image without what its documents say; raises OrderError."""
        repository, digest = image.repository, self._digest(image)
        view = self._around([digest])
        entry = view.get(digest)
        if entry is None or entry.media_type is None:
            raise _nothing_of(image)
        leads = [key for key in self._known if key.repository == repository]
        parents = view.parents()
        above = _above(digest, parents)
        if not isinstance(image.reference, Tag) and not any(self._here(above, repository)):
            raise _nothing_of(image)
        tags = [self._tag(key) for key in leads if self._known[key] in above]
        checked = [tag.checked for tag in tags if tag.tag == image.reference]
        inventory = self._inventory(view)
        size, alone = inventory.sizes(digest)
        of_image = ShownImage(
            reference=str(image),
            repository=str(repository),
            digest=digest,
            media_type=plain(entry.type_for(repository.upstream) or entry.media_type, 128),
            bytes=size,
            alone=alone,
            checked=checked[0] if checked else 0,
            used=entry.used_at,
            pinned=image in self._pinned,
            tags=tuple(sorted(tags, key=lambda tag: tag.tag)),
            platforms=(),
            parents=tuple(sorted(self._here(parents.get(digest, ()), repository))[:_MOST_PARENTS]),
            attached=(),
        )
        return ShowPlan(
            of_image,
            sizes=self._sizes(inventory, digest),
            sharing=_sharing(inventory, digest),
            named=tuple(self._named(image.repository, digest)),
            artifacts=self._artifacts(repository, digest),
        )

    def _digest(self, image: ImageName) -> Digest:
        if isinstance(image.reference, Tag):
            digest = self._known.get(TagKey(image.repository, image.reference))
            if digest is None:
                raise _nothing_of(image)
            return digest
        return image.reference

    def _around(self, digests: Collection[Digest]) -> View:
        """Return a view of all that these need, and of the manifests that lead to any of it."""
        return view_around(self._catalog, View([], [], self._catalog.get).reach(digests))

    def _inventory(self, view: View) -> Inventory:
        inside = {*view.manifests}
        known = ((key, digest) for key, digest in self._known.items() if digest in inside)
        return take_inventory(view, stored_images(view, known))

    def _tag(self, key: TagKey) -> ImageTag:
        tagged, digest = self._tags.peek(key), self._known[key]
        pinned = ImageName(*key) in self._pinned
        while tagged is not None and tagged.found.digest != digest:
            tagged = tagged.before
        if tagged is None:  # it has moved meanwhile
            return ImageTag(key.tag, digest, 0, fresh=False, pinned=pinned)
        fresh = self._tags.fresh(tagged)
        return ImageTag(key.tag, digest, self._tags.checked_at(tagged), fresh, pinned)

    def _sizes(self, inventory: Inventory, digest: Digest) -> dict[Digest, tuple[int, int]]:
        entry = self._catalog.get(digest)
        below = entry.children if entry is not None else ()
        manifests = [each for each in below if _is_manifest(inventory.view, each)]
        each_of = [digest, *manifests[:MOST_PLATFORMS]]
        return {each: inventory.sizes(each) for each in each_of}

    def _here(self, digests: Collection[Digest], repository: Repository) -> Iterator[Digest]:
        for digest in digests:
            entry = self._catalog.get(digest)
            if entry is not None and repository in entry.links:
                yield digest

    def _untagged(self, repository: Repository) -> set[Digest]:
        tagged = [digest for key, digest in self._known.items() if key.repository == repository]
        return untagged(self._catalog, repository, tagged)

    def _named(self, repository: Repository, digest: Digest) -> Iterator[tuple[Digest, str]]:
        """Yield the manifests that tags attach by their names, to the image or a part of it."""
        entry = self._catalog.get(digest)
        below = entry.children if entry is not None else ()
        for each in (digest, *islice(below, MOST_PLATFORMS)):
            for ending, what in _ATTACHED.items():
                tag = Tag(f"{each.algorithm}-{each.hex}{ending}")
                if found := self._known.get(TagKey(repository, tag)):
                    yield found, what

    def _artifacts(self, repository: Repository, digest: Digest) -> tuple[Digest, ...]:
        """Return the manifests that no tag leads to, and that are small: the last used ones."""
        entries = [(self._catalog.get(each), each) for each in self._untagged(repository)]
        found = [
            (entry.used_at, each)
            for entry, each in entries
            if entry is not None and entry.size <= _LARGEST_ARTIFACT and each != digest
            if entry.media_type not in media.INDEXES
        ]
        return tuple(each for _, each in nlargest(_MOST_ARTIFACTS, found))


def _sharing(inventory: Inventory, digest: Digest) -> dict[Digest, int]:
    """Return the number of other images that need each digest of an image."""
    own = sum(1 for each in inventory.images.values() if each == digest)
    return {each: inventory.needed[each] - own for each in inventory.view.reach([digest])}


def _above(digest: Digest, parents: Mapping[Digest, list[Digest]]) -> set[Digest]:
    """Return a digest, and the manifests that lead to it."""
    above: set[Digest] = set()
    ahead = [digest]
    while ahead:
        each = ahead.pop()
        if each not in above:
            above.add(each)
            ahead.extend(parents.get(each, ()))
    return above


def _is_manifest(view: View, digest: Digest) -> bool:
    entry = view.get(digest)
    return entry is not None and entry.media_type is not None


def _nothing_of(target: ImageName | Digest | Repository) -> NotStored:
    return NotStored(f"nothing of {shown(str(target))} is stored")
