"""Purges: plans for removing an image or a repository, and its content. Pure, for a thread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mirror.content.manifests.tags import TagKey
from mirror.oci.digest import Digest
from mirror.oci.image_name import ImageName
from mirror.oci.names import Repository
from mirror.storage.graph import View

_Known = Iterable[tuple[TagKey, Digest]]


@dataclass(frozen=True, slots=True)
class PurgePlan:
    """The plan of a purge: tags to remove, content to remove, content to unlink.

    `shared` is the number of blobs and manifests that stay because other images need them, `seen`
    the manifests that the plan has considered.
    """

    tags: set[TagKey]
    gone: set[Digest]
    unlinked: set[Digest]
    shared: int
    seen: frozenset[Digest]


def plan_image(view: View, known: _Known, image: ImageName) -> PurgePlan | None:
    """Plan the removal of an image's tag, and of its content that no other image needs.

    `None` if nothing of the image is stored.
    """
    here, tags = image.repository, list(known)
    leads = {digest for key, digest in tags if key == (here, image.reference)}
    if isinstance(image.reference, Digest) and image.reference in view.needs(here):
        leads.add(image.reference)
    if not leads:
        return None
    gone_tags = {key for key, digest in tags if _names(image, key, digest)}
    whole = view.reach(leads)
    tagged = [(key, digest) for key, digest in tags if key not in gone_tags]
    needed = _needed(view, whole, here, [digest for _, digest in tagged])
    tagged_here = [digest for key, digest in tagged if key[0] == here]
    unlinked = needed - _needed_here(view, here, tagged_here, whole)
    return PurgePlan(gone_tags, whole - needed, unlinked, len(needed), frozenset(view.manifests))


def _needed(
    view: View, whole: set[Digest], here: Repository, tagged: Iterable[Digest]
) -> set[Digest]:
    """Return an image's content that is needed outside of it: by tags, manifests, repositories.

    A blob is needed by manifests only: the repository that it came from says nothing.
    """
    anchors = whole.intersection(tagged)
    for digest in whole:
        entry = view.get(digest)
        links = entry.links if entry is not None and entry.media_type is not None else ()
        if any(link != here for link in links):
            anchors.add(digest)
    for digest in view.manifests:
        entry = view.get(digest)
        if entry is not None and digest not in whole:
            anchors.update(whole.intersection(entry.children))
    return view.reach(anchors)


def _needed_here(
    view: View, here: Repository, tagged_here: Iterable[Digest], whole: set[Digest]
) -> set[Digest]:
    """Return the content a repository needs without an image, for its other tags and manifests."""
    held = view.needs(here)
    rest = [digest for digest in view.manifests if digest in held and digest not in whole]
    return view.reach([*tagged_here, *rest])


def plan_repository(view: View, known: _Known, repository: Repository) -> PurgePlan | None:
    """Plan the removal of a repository's tags, and of content that no other repository holds.

    `None` if nothing of the repository is stored.
    """
    tags = {key for key, _ in known if key[0] == repository}
    held = {digest: where for digest, where in view.holders().items() if repository in where}
    if not tags and not held:
        return None
    alone = {digest for digest, where in held.items() if len(where) == 1}
    shared = held.keys() - alone
    return PurgePlan(tags, alone, set(shared), len(shared), frozenset(view.manifests))


def _names(image: ImageName, key: TagKey, digest: Digest) -> bool:
    """Whether a tag is the image's own, or points at the manifest that the image is named by."""
    return key[0] == image.repository and image.reference in (key[1], digest)
