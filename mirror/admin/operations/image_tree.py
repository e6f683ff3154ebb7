"""Image trees: the stored content of an image in its repository, and its gaps."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirror.oci import strict_json
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.oci.pointers import Pointer, Pointers, pointers
from mirror.storage.store import Store

DEEPEST = 8  # levels of indexes; real images have two
MOST_TOLD = 32  # gaps of an image that are named
MOST_MANIFESTS = 10_000  # of one image


@dataclass(slots=True)
class ImageTree:
    """The content of an image: sizes in bytes by digest, a manifest before its blobs.

    `whole`: it can be used, by one platform at least. `platforms` are complete, `missing` are not
    stored or not complete.
    """

    whole: bool = False
    sizes: dict[Digest, int] = field(default_factory=dict)
    platforms: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class StoredTrees:
    """The trees of a repository's images, for these platforms or, if there are none, for all.

    Content counts as stored only where it is linked to the repository: a reference in a manifest
    proves nothing, and all readers of an export can read its content.
    """

    def __init__(self, store: Store, repository: Repository, platforms: tuple[str, ...]) -> None:
        self._store = store
        self._repository = repository
        self._platforms = platforms
        self._manifests = 0

    async def of(self, digest: Digest) -> ImageTree:
        """Return the tree of a manifest; raises Unavailable."""
        tree = ImageTree()
        await self._walk(digest, tree, DEEPEST)
        absent = [each for each in self._platforms if not _covered(each, tree)]
        tree.missing.extend(each for each in absent if each not in tree.missing)
        if absent and tree.platforms != ["any"]:
            tree.whole = False
        return tree

    async def _walk(self, digest: Digest, tree: ImageTree, deeper: int) -> None:
        found = await self._pointers(digest)
        if found is None or not deeper:
            tree.missing.append(digest)
        elif found.manifests:
            await self._walk_index(digest, found, tree, deeper)
        else:
            self._add(digest, found, tree, "any")

    async def _walk_index(
        self, digest: Digest, found: Pointers, tree: ImageTree, deeper: int
    ) -> None:
        tree.sizes[digest] = self._size(digest)
        for child in found.manifests:
            if not self._chosen(child, found):
                continue
            of_child = await self._pointers(child.digest)
            if of_child is not None and of_child.manifests and deeper > 1:
                await self._walk_index(child.digest, of_child, tree, deeper - 1)
            elif of_child is None or of_child.manifests:
                self._miss(child, tree)
            else:
                self._add(child.digest, of_child, tree, _label(child))

    def _miss(self, child: Pointer, tree: ImageTree) -> None:
        if not child.about:  # an attestation is no part of the image, and clients rarely pull it
            tree.missing.append(_label(child))

    def _add(self, digest: Digest, found: Pointers, tree: ImageTree, label: str) -> None:
        """Add an image's manifest with its blobs, if all of these are stored."""
        needed = [each for each in found.blobs if not each.elsewhere]
        lacking = [each.digest for each in needed if not self._has(each)]
        if lacking:
            many = f"{label}, of which {len(lacking)} of {len(needed)} blobs are not stored"
            tree.missing.append(f"{many} for {self._repository}")
            return
        tree.sizes[digest] = self._size(digest)
        blobs = (each.digest for each in found.blobs if self._has(each))
        tree.sizes.update((each, self._size(each)) for each in blobs)
        if not label.startswith("unknown"):
            tree.platforms.append(label)
            tree.whole = True

    async def _pointers(self, digest: Digest) -> Pointers | None:
        """Return the references of a stored manifest; None if it is not stored."""
        self._manifests += 1
        entry = self._store.catalog.get(digest)
        belongs = self._store.catalog.belongs(digest, self._repository)
        if entry is None or entry.media_type is None or not belongs:
            return None
        if self._manifests > MOST_MANIFESTS or (body := await self._store.read(digest)) is None:
            return None
        return await strict_json.on_thread(pointers, body)

    def _has(self, pointer: Pointer) -> bool:
        entry = self._store.catalog.get(pointer.digest)
        right = entry is not None and pointer.size in (-1, entry.size)
        return right and self._store.catalog.belongs(pointer.digest, self._repository)

    def _size(self, digest: Digest) -> int:
        entry = self._store.catalog.get(digest)
        return 0 if entry is None else entry.size

    def _chosen(self, child: Pointer, among: Pointers) -> bool:
        """Whether a child of an index is for one of the platforms, or about such a child."""
        if not self._platforms:
            return True
        if child.about:
            about = (each for each in among.manifests if each.digest == child.about)
            return any(not each.about and self._chosen(each, among) for each in about)
        return any(is_for(child.platform, wanted) for wanted in self._platforms)


def is_for(platform: str, wanted: str) -> bool:
    """Whether a platform is the wanted one; `linux/arm64` covers its variants."""
    return platform == wanted or platform.startswith(f"{wanted}/")


def _covered(wanted: str, tree: ImageTree) -> bool:
    return any(is_for(each, wanted) for each in tree.platforms)


def _label(child: Pointer) -> str:
    return child.platform or child.digest
