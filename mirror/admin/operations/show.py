"""`show`: reports the stored content of an image or a repository."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, replace

from mirror.admin.messages import (
    Attached,
    Layer,
    OrderInvalid,
    PlatformImage,
    Record,
    ShownImage,
    ShowOrder,
)
from mirror.admin.operations.image_documents import (
    ConfigDocument,
    ManifestDocument,
    Part,
    read_config,
    read_manifest,
)
from mirror.admin.operations.parts import OperationParts
from mirror.admin.operations.show_plan import MOST_PLATFORMS, ShowPlan, plan_show
from mirror.oci import media, strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError
from mirror.storage.errors import Unavailable
from mirror.storage.store import Store
from mirror.util.gc_pause import gc_paused

_MOST_LISTED = 1024  # platforms of an index that are listed
_LARGEST_CONFIG = 1024 * 1024  # bytes; an honest one takes some kilobytes
# The kind of an artifact, by a part of its type.
_KINDS = {
    "spdx": "SBOM",
    "cyclonedx": "SBOM",
    "cosign.artifact.sig": "cosign signature",
    "notary.signature": "notation signature",
    "sigstore.bundle": "sigstore bundle",
    "in-toto": "attestation",
}


async def show(parts: OperationParts, order: ShowOrder) -> AsyncGenerator[Record, None]:
    """Yield the image or repository. Raises OrderError, StorageError."""
    store, tags = parts.store, parts.tags
    try:
        found = await store.run_read(
            gc_paused()(plan_show),
            order.target,
            store.catalog,
            tags,
            tags.names(),
            frozenset(store.pins.images),
        )
    except RegistryError as error:
        raise OrderInvalid(error.message) from None
    yield found if isinstance(found, ShownImage) else await _Reading(store, found).image()


@dataclass(frozen=True, slots=True)
class _Reading:
    """Adds the claims of an image's documents to a plan; an unreadable document adds none."""

    store: Store
    plan: ShowPlan

    async def image(self) -> ShownImage:
        digest = Digest(self.plan.image.digest)
        document = await self._manifest(digest, _MOST_LISTED)
        platforms = [each for each in document.manifests if not each.about]
        if self.plan.image.media_type in media.INDEXES:
            shown = [await self._platform(each, n) for n, each in enumerate(platforms)]
        else:
            shown = [await self._described(digest, document, "")]
        attached = {each.digest: each async for each in self._attached(digest, document)}
        return replace(self.plan.image, platforms=tuple(shown), attached=tuple(attached.values()))

    async def _platform(self, part: Part, number: int) -> PlatformImage:
        stored = self.store.catalog.get(part.digest) is not None
        if not stored or number >= MOST_PLATFORMS:
            sizes = self.plan.sizes.get(part.digest, (0, 0))
            return PlatformImage(part.platform, part.digest, stored, *sizes, None, ())
        document = await self._manifest(part.digest, 0)
        return await self._described(part.digest, document, part.platform)

    async def _described(
        self, digest: Digest, document: ManifestDocument, platform: str
    ) -> PlatformImage:
        config = await self._config(document)
        commands = config.commands or (None,) * len(document.layers)
        layers = map(self._layer, document.layers, commands)
        sizes = self.plan.sizes.get(digest, (0, 0))
        return PlatformImage(
            platform or config.platform, digest, True, *sizes, config.created, tuple(layers)
        )

    def _layer(self, part: Part, command: str | None) -> Layer:
        entry = self.store.catalog.get(part.digest)
        size = part.size if entry is None else entry.size
        sharing = max(0, self.plan.sharing.get(part.digest, 0))
        return Layer(part.digest, size, entry is not None, sharing, command)

    async def _attached(
        self, digest: Digest, document: ManifestDocument
    ) -> AsyncGenerator[Attached, None]:
        """Yield what claims to be about the image: nothing here proves it."""
        ours = {digest, *(part.digest for part in document.manifests)}
        for part in document.manifests:
            if part.about in ours and self.store.catalog.get(part.digest) is not None:
                yield Attached(part.digest, "BuildKit attestation", part.kind)
        for found, what in self.plan.named:
            yield Attached(found, what, (await self._manifest(found, 0)).kind)
        for found in self.plan.artifacts:
            about = await self._manifest(found, 0)
            if about.subject in ours:
                yield Attached(found, _what(about.kind), about.kind)

    async def _manifest(self, digest: Digest, most: int) -> ManifestDocument:
        body = await self._read(digest)
        if body is None:
            return ManifestDocument()
        return await strict_json.on_thread(read_manifest, body, most)

    async def _config(self, document: ManifestDocument) -> ConfigDocument:
        entry = None if document.config is None else self.store.catalog.get(document.config)
        if document.config is None or entry is None or entry.size > _LARGEST_CONFIG:
            return ConfigDocument()
        body = await self._read(document.config)
        if body is None:
            return ConfigDocument()
        return await strict_json.on_thread(read_config, body, len(document.layers))

    async def _read(self, digest: Digest) -> bytes | None:
        if self.store.catalog.get(digest) is None:
            return None
        try:
            return await self.store.read(digest)
        except Unavailable:
            return None


def _what(kind: str) -> str:
    return next(_named(kind), "artifact")


def _named(kind: str) -> Iterator[str]:
    return (what for part, what in _KINDS.items() if part in kind.lower())
