"""The stored content of an image or a repository, by the catalogue alone. Pure, for a thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice

from mirror.admin.messages import ImageTag, NotStored, ShownImage
from mirror.admin.operations.inventory import stored_images, take_inventory
from mirror.admin.operations.parts import charged_for
from mirror.content.manifests.tags import Tags
from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.errors import shown
from mirror.oci.image_name import ImageName, parse_target
from mirror.oci.names import Repository, Tag
from mirror.storage.graph import View
from mirror.storage.metadata.rows import TagKey
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
    view: View,
    tags: Tags,
    names: list[TagKey],
    pinned: frozenset[ImageName],
    upstreams: Callable[[], Collection[str]],
) -> ShowPlan | ShownImage:
    """Parse the operator's target and look it up; a repository needs no document.

    `names` are all tags, `pinned` the pinned images, `upstreams` returns the upstreams of stored
    content. Raises OrderError if nothing of the target is stored, NameInvalid, TagInvalid, or
    DigestInvalid.
    """
    known = list(_known(view, tags, names))
    target = parse_target(text, {*upstreams(), *(key.repository.upstream for key, _ in known)})
    look = _Look(view, tags, dict(known), pinned)
    if isinstance(target, Repository):
        return look.repository(target)
    if isinstance(target, Digest):
        entry = view.get(target)
        where = sorted(entry.links, key=str) if entry is not None and entry.media_type else ()
        if not where:
            raise _nothing_of(target)
        target = ImageName(where[0], target)
    return look.image(target)


def _known(view: View, tags: Tags, names: list[TagKey]) -> Iterator[tuple[TagKey, Digest]]:
    """Yield the tags of stored manifests: of a tag that moved, the manifest that is stored."""
    for key in names:
        tagged = tags.peek(key)
        for each in (tagged, tagged.before) if tagged is not None else ():
            if each is not None and view.get(each.found.digest) is not None:
                yield key, each.found.digest
                break


class _Look:
    """A look at stored content with its tags."""

    def __init__(
        self,
        view: View,
        tags: Tags,
        known: dict[TagKey, Digest],
        pinned: frozenset[ImageName],
    ) -> None:
        self._view = view
        self._tags = tags
        self._known = known
        self._pinned = pinned
        self._inventory = take_inventory(view, stored_images(view, known.items()))

    def repository(self, repository: Repository) -> ShownImage:
        """Return a repository with its tags; raises OrderError if nothing of it is stored."""
        held = self._view.holders()
        mine = [digest for digest, where in held.items() if repository in where]
        if not mine:
            raise _nothing_of(repository)
        tags = [self._tag(key) for key in self._known if key.repository == repository]
        entries = filter(None, map(self._view.get, mine))
        return ShownImage(
            reference=str(repository),
            repository=str(repository),
            digest="",
            media_type="",
            bytes=charged_for(self._view, mine),
            alone=charged_for(self._view, (each for each in mine if len(held[each]) == 1)),
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
        view, repository = self._view, image.repository
        digest = self._digest(image)
        entry = view.get(digest)
        if entry is None or entry.media_type is None:
            raise _nothing_of(image)
        whole = view.reach([digest])
        leads = [key for key in self._known if key.repository == repository]
        parents = view.parents()
        above = _above(digest, parents)
        tags = [self._tag(key) for key in leads if self._known[key] in above]
        checked = [tag.checked for tag in tags if tag.tag == image.reference]
        size, alone = self._inventory.sizes(digest)
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
            sizes=self._sizes(digest),
            sharing=self._sharing(digest, whole),
            named=tuple(self._named(image.repository, digest)),
            artifacts=self._artifacts(repository, digest),
        )

    def _digest(self, image: ImageName) -> Digest:
        if isinstance(image.reference, Tag):
            digest = self._known.get(TagKey(image.repository, image.reference))
            if digest is None:
                raise _nothing_of(image)
            return digest
        if image.reference not in self._view.needs(image.repository):
            raise _nothing_of(image)
        return image.reference

    def _tag(self, key: TagKey) -> ImageTag:
        tagged, digest = self._tags.peek(key), self._known[key]
        pinned = ImageName(*key) in self._pinned
        while tagged is not None and tagged.found.digest != digest:
            tagged = tagged.before
        if tagged is None:  # it has moved meanwhile
            return ImageTag(key.tag, digest, 0, fresh=False, pinned=pinned)
        fresh = self._tags.fresh(tagged)
        return ImageTag(key.tag, digest, self._tags.checked_at(tagged), fresh, pinned)

    def _sizes(self, digest: Digest) -> dict[Digest, tuple[int, int]]:
        entry = self._view.get(digest)
        below = entry.children if entry is not None else ()
        manifests = [each for each in below if _is_manifest(self._view, each)]
        each_of = [digest, *manifests[:MOST_PLATFORMS]]
        return {each: self._inventory.sizes(each) for each in each_of}

    def _sharing(self, digest: Digest, whole: set[Digest]) -> dict[Digest, int]:
        own = sum(1 for each in self._inventory.images.values() if each == digest)
        return {each: self._inventory.needed[each] - own for each in whole}

    def _here(self, digests: Collection[Digest], repository: Repository) -> Iterator[Digest]:
        for digest in digests:
            entry = self._view.get(digest)
            if entry is not None and repository in entry.links:
                yield digest

    def _untagged(self, repository: Repository) -> list[Digest]:
        images = self._inventory.images
        return [
            digest
            for (where, reference), digest in images.items()
            if where == repository and isinstance(reference, Digest)
        ]

    def _named(self, repository: Repository, digest: Digest) -> Iterator[tuple[Digest, str]]:
        """Yield the manifests that tags attach by their names, to the image or a part of it."""
        entry = self._view.get(digest)
        below = entry.children if entry is not None else ()
        for each in (digest, *islice(below, MOST_PLATFORMS)):
            for ending, what in _ATTACHED.items():
                tag = Tag(f"{each.algorithm}-{each.hex}{ending}")
                if found := self._known.get(TagKey(repository, tag)):
                    yield found, what

    def _artifacts(self, repository: Repository, digest: Digest) -> tuple[Digest, ...]:
        """Return the manifests that no tag leads to, and that are small: the last used ones."""
        entries = [(self._view.get(each), each) for each in self._untagged(repository)]
        found = [
            (entry.used_at, each)
            for entry, each in entries
            if entry is not None and entry.size <= _LARGEST_ARTIFACT and each != digest
            if entry.media_type not in media.INDEXES
        ]
        return tuple(each for _, each in nlargest(_MOST_ARTIFACTS, found))


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
