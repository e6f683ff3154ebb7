"""The warming of one image: its manifests, then its blobs, as a client's pull brings them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from mirror.admin.messages.warm import WarmingImage
from mirror.admin.operations.parts import LiveParts, OperationParts
from mirror.admin.operations.warm_bounds import Bounds, NotWarmed
from mirror.admin.operations.warm_documents import (
    Child,
    WantedBlob,
    choose_children,
    is_index,
    read_blobs,
    read_children,
)
from mirror.admin.operations.warm_pulls import ImagePulls
from mirror.admin.operations.warm_room import Room
from mirror.content.blobs.followers import FetchedBody
from mirror.content.manifests.result import ManifestResult
from mirror.content.outcome import STALE_TEXTS, Outcome
from mirror.identity.client import MIRROR_ITSELF, ClientIdentity
from mirror.oci import strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError, UpstreamFailure, shown
from mirror.oci.image_name import ImageName
from mirror.oci.names import Repository
from mirror.oci.platform import Platform
from mirror.storage.errors import StorageError
from mirror.upstream.publicity_check import ProbedContent
from mirror.util.fair_semaphore import Owners

# The mirror asks for itself: it may read what its account may, within the rules of the upstream.
_ITSELF = ClientIdentity(MIRROR_ITSELF, name=MIRROR_ITSELF)


@dataclass(slots=True)
class ImageWarming:
    """One image on its way."""

    parts: OperationParts
    live: LiveParts
    name: ImageName
    platforms: tuple[Platform, ...]
    insist: bool  # on each platform: they were given
    allowed: ImagePulls
    room: Room
    digest: Digest | None = None
    pulls: int = 0
    chosen: list[str] = field(default_factory=list)
    missing_bytes: int = 0
    _bounds: Bounds = field(default_factory=Bounds)
    _done: int = 0
    _bodies: dict[Digest, FetchedBody] = field(default_factory=dict)

    @property
    def repository(self) -> Repository:
        """Its repository."""
        return self.name.repository

    @property
    def arrived(self) -> int:
        """The bytes that have arrived."""
        return self._done + sum(body.arrived for body in self._bodies.values())

    @property
    def progress(self) -> WarmingImage:
        """Its progress, as a record."""
        return WarmingImage(str(self.name), self.arrived, max(self.missing_bytes, self.arrived))

    async def run(self) -> None:
        """Bring it; raises NotWarmed, RegistryError, StorageError."""
        await admit(self.live, self.name)
        with self.allowed:
            found = await self._resolve()
            self.digest = found.descriptor.digest
            of_index = 1 + len(self.platforms)
            cost = of_index if is_index(found.descriptor.media_type) else 1
            await self._manifests(await self._manifest(self.digest, cost))
        blobs = self._bounds.blobs
        self.room.take(blobs, pinned=self.name in self.parts.store.pins.images)
        await self._bring_all(blobs)
        if found.why is not None:
            raise NotWarmed(f"it is stored as it was before: {STALE_TEXTS[found.why]}")

    async def _resolve(self) -> ManifestResult:
        """Resolve the name; a pull is spent on it if upstream's HEAD does not decide."""
        reference = self.name.reference
        get = partial(self.live.manifests.get, self.repository, reference, MIRROR_ITSELF, head=True)
        careless = self.allowed.all_may_go and not self.room.full
        if careless or await self._is_decided():
            found = await get()
        else:
            self.room.check()
            async with self.allowed.spending(1):
                found = await get()
        self.pulls += found.outcome is Outcome.MISS and found.body is not None
        return found

    async def _is_decided(self) -> bool:
        """Whether stored knowledge or a HEAD resolves the name; no pull is spent on this."""
        preview = self.live.manifests.preview
        try:
            return (await preview(self.repository, self.name.reference)).descriptor is not None
        except UpstreamFailure:
            return False

    async def _manifests(self, found: ManifestResult, depth: int = 1) -> None:
        """Bring the manifests for the platforms of an index, and note the blobs of all of them."""
        body = found.body or b""
        if not is_index(found.descriptor.media_type):
            self._bounds.take(await strict_json.on_thread(read_blobs, body))
            return
        children = await strict_json.on_thread(read_children, body)
        chosen = choose(children, self.platforms, insist=self.insist)
        for child in self._bounds.enter(chosen, depth):
            await self._manifests(await self._manifest(child.digest, 1), depth + 1)
            if child.platform is not None:
                self.chosen.append(str(child.platform))

    async def _manifest(self, digest: Digest, cost: int) -> ManifestResult:
        """Bring a manifest; a manifest that is stored for this upstream costs no pull."""
        catalog, upstream = self.parts.store.catalog, self.repository.upstream
        get = partial(self.live.manifests.get, self.repository, digest, MIRROR_ITSELF, head=False)
        if catalog.within(digest, upstream, alone=len(self.live.registries) == 1):
            found = await get()
        else:
            self.room.check()
            async with self.allowed.spending(cost):
                found = await get()
        self.pulls += found.outcome is Outcome.MISS
        return found

    async def _bring_all(self, blobs: list[WantedBlob]) -> None:
        """Bring all blobs, also after one has failed: a later run needs these no more."""
        catalog = self.parts.store.catalog
        self.missing_bytes = sum(each.size for each in blobs if catalog.get(each.digest) is None)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._failure(each.digest)) for each in blobs]
        failures = [failure for task in tasks if (failure := task.result()) is not None]
        if failures:
            more = f" (and {len(failures) - 1} more blobs failed)" if len(failures) > 1 else ""
            raise NotWarmed(f"{failures[0]}{more}")

    async def _failure(self, digest: Digest) -> str | None:
        """Bring a blob; returns the reason if that fails."""
        async with self.live.warm_places.taken(*self._owners()):
            try:
                stored = await self._bring(digest)
            except RegistryError as error:
                return f"{digest[:19]}…: {error.message}"
            except StorageError as error:
                return f"{digest[:19]}…: {error.reason}"
        return None if stored else f"{digest[:19]}… cannot be stored: no room, or the disk fails"

    def _owners(self) -> Owners:
        """Return the owner of places for blobs: no upstream that hangs may take all of them."""
        return (self.repository.upstream,) if len(self.live.registries) > 1 else ()

    async def _bring(self, digest: Digest) -> bool:
        def follow(body: FetchedBody) -> None:
            self._bodies[digest] = body

        try:
            return await self.live.blobs.bring(self.repository, digest, MIRROR_ITSELF, follow)
        finally:
            if (body := self._bodies.pop(digest, None)) is not None:
                self._done += body.arrived


async def admit(live: LiveParts, name: ImageName) -> None:
    """Check that the mirror may read an image; raises NotWarmed, NotAllowed."""
    if name.repository.upstream not in live.registries:
        known = ", ".join(sorted(live.registries))
        raise NotWarmed(f"no upstream {shown(name.repository.upstream)} here; known are {known}")
    await live.access.admit(
        name.repository, _ITSELF, lambda: ProbedContent("manifest", name.reference)
    )


def choose(children: list[Child], platforms: Sequence[Platform], *, insist: bool) -> list[Child]:
    """Choose the entries of an index for platforms; raises NotWarmed if there are none.

    With `insist`, it raises also if any platform is missing.
    """
    chosen, missing = choose_children(children, platforms)
    if missing and (insist or not chosen):
        offered = sorted({str(child.platform) for child in children if child.platform})
        raise NotWarmed(
            f"it is not there for {', '.join(map(str, missing))}; "
            f"it is for {', '.join(offered[:20]) or 'no platform'}"
        )
    return chosen
