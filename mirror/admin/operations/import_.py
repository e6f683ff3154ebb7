"""`import`: takes in images of a layout; every byte is proven, and nothing else is taken.

The mirror asks for each manifest and blob, from the named roots on. So content that no root leads
to is never sent, and the room for all of it is checked before the first blob is written.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from mirror.admin.archives.archive_source import no_room
from mirror.admin.import_source import ImportSource
from mirror.admin.messages import (
    Imported,
    ImportedImage,
    ImportOrder,
    OfferedImage,
    OrderError,
    OrderInvalid,
    Record,
    Wanted,
)
from mirror.admin.operations.import_plan import ImagePlan, ImportPlan
from mirror.admin.operations.parts import OperationParts
from mirror.content.manifests.stored import StoredManifests
from mirror.oci import manifest, strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError
from mirror.oci.image_name import parse_image
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Repository, Tag
from mirror.oci.pointers import pointers
from mirror.storage.entry import Entry
from mirror.storage.metadata.rows import TagKey
from mirror.storage.stored_blob import Hold
from mirror.util.cooperative import cooperatively

_LINKS = 16  # of one blob, between two turns of other tasks: each copies the earlier ones


async def import_images(parts: OperationParts, order: ImportOrder) -> AsyncGenerator[Record, None]:
    """Yield requests for content, and finally the images; raises OrderError, StorageError."""
    if parts.source is None:
        raise OrderError("an import needs its command, which has the layout")
    work = _Import(parts, parts.source)
    try:
        images = order.images or await parts.source.images(parts.store)
        async for image in cooperatively(images):
            work.offer(image)
        while wanted := work.plan.wanted_manifests():
            yield Wanted(tuple(wanted), work.plan.bytes_of(wanted))
            await work.take_manifests(wanted)
        if blobs := await work.wanted_blobs():
            yield Wanted(tuple(blobs), await parts.store.run_read(work.plan.bytes_of, blobs))
            await work.take_blobs(blobs)
        yield await work.finish()
    finally:
        work.close()


class _Import:
    """One import: its plan, and its content so far. Stored content stays on hold to its end."""

    def __init__(self, parts: OperationParts, source: ImportSource) -> None:
        self.plan = ImportPlan()
        self._store, self._tags = parts.store, parts.tags
        self._upstreams = parts.budget.upstreams()
        self._stored = StoredManifests(parts.store, parts.tags, parts.memory, self._upstreams)
        self._source = source
        self._refused: list[ImportedImage] = []
        self._held: dict[Digest, Hold] = {}
        self._blobs, self._bytes = 0, 0  # new ones

    def close(self) -> None:
        """Allow the eviction of all that was taken in."""
        for hold in self._held.values():
            hold.release()

    def _hold(self, digest: Digest, entry: Entry) -> None:
        """Keep content from eviction, by one hold however many repositories it belongs to."""
        held = self._held.get(digest)
        if held is None or held.entry is not entry:  # another one after a purge
            self._held[digest] = self._store.hold(entry)
            if held is not None:
                held.release()

    def offer(self, image: OfferedImage) -> None:
        """Plan an image, or refuse it; raises OrderError for a name that is invalid or twice."""
        try:
            name = parse_image(image.name, self._upstreams)
            found = Descriptor(Digest.parse(image.digest), image.media_type, image.size)
        except RegistryError as error:
            raise OrderInvalid(error.message) from None
        upstream = name.repository.upstream
        if upstream not in self._upstreams:
            reason = f"{upstream} is not an upstream of this mirror ({', '.join(self._upstreams)})"
            self._refused.append(ImportedImage(str(name), found.digest, reason=reason))
        elif isinstance(name.reference, Digest) and name.reference != found.digest:
            reason = f"its manifest is {found.digest}"
            self._refused.append(ImportedImage(str(name), found.digest, reason=reason))
        else:
            self.plan.add(name, found)

    async def take_manifests(self, wanted: Iterable[Digest]) -> None:
        """Take the manifests that were asked for; raises OrderError."""
        for digest in wanted:
            announced = self.plan.announced[digest]
            body = await self._source.manifest(announced)
            if body is None:
                self.plan.lack(digest)
                continue
            taken = await self._proven(body, announced)
            self.plan.take(taken, await strict_json.on_thread(pointers, body))

    async def _proven(self, body: bytes, announced: Descriptor) -> Manifest:
        try:
            found = await strict_json.on_thread(
                manifest.prove, body, announced.digest, announced.media_type
            )
        except RegistryError as error:
            raise OrderError(f"{announced.digest}: {error.message}") from None
        if found.in_part:
            raise OrderError(f"{announced.digest} has a signature of schema 1, and is not stored")
        return found

    async def wanted_blobs(self) -> list[Digest]:
        """Return the blobs that are not stored in their repositories yet; holds the others.

        Raises OrderError if they do not fit.
        """
        await self._store.run_read(self.plan.locate)
        blobs = cooperatively(self.plan.blobs)
        wanted = [each async for each in blobs if not await self._is_stored(each)]
        size = await self._store.run_read(self.plan.room_for, wanted)
        if not self._store.fits(max(0, size - self._source.reserved)):
            raise no_room(size, self._store)
        return wanted

    async def _is_stored(self, digest: Digest) -> bool:
        """Whether a blob is stored and linked to all its repositories.

        Otherwise the layout has to show that it has the bytes: a digest alone is no proof.
        """
        belongs = self._store.catalog.belongs
        if not all(belongs(digest, each) for each in self.plan.repositories(digest)):
            return False
        if (blob := await self._store.open(digest)) is None:
            return False
        # Held, and not open to the end: there may be more blobs than descriptors.
        self._hold(digest, blob.entry)
        blob.close()
        return blob.entry.size == self.plan.blobs[digest]

    async def take_blobs(self, wanted: Iterable[Digest]) -> None:
        """Store the blobs that were asked for; raises OrderError, StorageError."""
        for digest in wanted:
            size, (first, *others) = self.plan.blobs[digest], self.plan.repositories(digest)
            new = self._store.catalog.get(digest) is None
            entry = await self._source.blob(self._store, digest, size, first)
            if entry is None:
                self.plan.lack(digest)
                continue
            self._hold(digest, entry)
            async for repository in cooperatively(others, _LINKS):
                self._store.link(digest, repository)
            self._blobs, self._bytes = self._blobs + new, self._bytes + new * size

    async def finish(self) -> Imported:
        """Store the manifests, children first, and once all are stored the tags.

        Raises OrderError, and then no tag has changed.
        """
        reports = await self._store.run_read(self.plan.reports)
        taken = [image for image, report in reports if not report.reason]
        async for image in cooperatively(self.plan.distinct(taken), 1):
            await self._keep(image)
        async for image in cooperatively(taken, 16):
            self._tag(image)
        await self._store.index.flush()
        images = (*self._refused, *(report for _, report in reports))
        return Imported(images, self._blobs, self._bytes)

    async def _keep(self, image: ImagePlan) -> None:
        repository = image.name.repository
        async for found in cooperatively(self.plan.manifests_of(image), 16):
            await self._keep_manifest(found, repository)

    def _tag(self, image: ImagePlan) -> None:
        repository = image.name.repository
        root = self._stored.known(repository, image.found.digest)
        if root is not None and isinstance(image.name.reference, Tag):
            self._tags.put(TagKey(repository, image.name.reference), root)
            self._tags.arrived(repository, root.digest)

    async def _keep_manifest(self, found: Manifest, repository: Repository) -> None:
        digest = found.descriptor.digest
        new = self._store.catalog.get(digest) is None
        await self._stored.keep(repository, found)
        entry = self._store.catalog.get(digest)
        if entry is None or repository not in entry.links:
            raise OrderError(f"{digest} cannot be stored; the log has the reason")
        self._hold(digest, entry)
        self._blobs += new
        self._bytes += new * found.descriptor.size
