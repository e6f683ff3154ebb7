"""The cost of warming one image: manifests to pull, and bytes to fetch; nothing is spent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mirror.admin.operations.parts import LiveParts, OperationParts
from mirror.admin.operations.warm_bounds import Bounds, NotWarmed
from mirror.admin.operations.warm_documents import WantedBlob, is_index, read_blobs, read_children
from mirror.admin.operations.warm_image import admit, choose
from mirror.admin.operations.warm_room import Room
from mirror.oci import strict_json
from mirror.oci.digest import Digest
from mirror.oci.image_name import ImageName
from mirror.oci.platform import Platform
from mirror.storage.errors import Unavailable


@dataclass(slots=True)
class ImageCost:
    """The cost of an image, as far as stored manifests and HEADs tell.

    `counted` has the content that other images of the run cost already, `planned` their pulls by
    upstream; `leave` is that of the order.
    """

    parts: OperationParts
    live: LiveParts
    name: ImageName
    platforms: tuple[Platform, ...]
    insist: bool
    room: Room
    counted: dict[Digest, int]
    planned: Counter[str]
    leave: int | None
    digest: Digest | None = None
    pulls: int = 0
    unknown: bool = False
    missing: int = 0  # bytes
    chosen: list[str] = field(default_factory=list)
    _bounds: Bounds = field(default_factory=Bounds)

    async def run(self) -> None:
        """Reckon it; raises NotWarmed, RegistryError."""
        await admit(self.live, self.name)
        hint = await self.live.manifests.preview(self.name.repository, self.name.reference)
        if hint.missing:
            raise NotWarmed("upstream has no such image")
        self.digest = hint.digest
        await self._manifest(hint.digest, hint.media_type)
        self._plan_pulls()
        self._blobs(self._bounds.blobs)

    def _plan_pulls(self) -> None:
        upstream, pulls, self.pulls = self.name.repository.upstream, self.pulls, 0
        if pulls:
            self.room.check()
            own = -self.planned[upstream]  # those of other images
            self.live.warm_pulls.check(upstream, pulls, self.leave, own=own)
        self.planned[upstream] += pulls
        self.pulls = pulls

    async def _manifest(self, digest: Digest | None, media_type: str, depth: int = 1) -> None:
        body = None if digest is None else await self._stored(digest)
        if body is None:
            self.unknown = True
            if digest is None or self._count(digest, 0):
                self.pulls += 1 + (len(self.platforms) if is_index(media_type) else 0)
        elif is_index(media_type):
            await self._children(body, depth)
        else:
            self._bounds.take(await strict_json.on_thread(read_blobs, body))

    def _blobs(self, blobs: list[WantedBlob]) -> None:
        self.room.take(blobs, pinned=self.name in self.parts.store.pins.images)
        for blob in blobs:
            stored = self.parts.store.catalog.get(blob.digest) is not None
            if not stored and self._count(blob.digest, blob.size):
                self.missing += blob.size

    def _count(self, digest: Digest, size: int) -> bool:
        """Count content in; False if another image of the run costs it already."""
        known = digest in self.counted
        self.counted[digest] = size
        return not known

    async def _children(self, body: bytes, depth: int) -> None:
        catalog, upstream = self.parts.store.catalog, self.name.repository.upstream
        children = await strict_json.on_thread(read_children, body)
        chosen = choose(children, self.platforms, insist=self.insist)
        for child in self._bounds.enter(chosen, depth):
            entry = catalog.get(child.digest)
            kind = (entry.type_for(upstream) if entry else None) or ""
            await self._manifest(child.digest, kind, depth + 1)
            if child.platform is not None:
                self.chosen.append(str(child.platform))

    async def _stored(self, digest: Digest) -> bytes | None:
        """Return a manifest that is stored for this upstream; another one costs a pull."""
        catalog, upstream = self.parts.store.catalog, self.name.repository.upstream
        if not catalog.within(digest, upstream, alone=len(self.live.registries) == 1):
            return None
        try:
            return self.parts.memory.get(digest) or await self.parts.store.read(digest)
        except Unavailable:
            return None
