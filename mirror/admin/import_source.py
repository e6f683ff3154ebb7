"""The seam between an import and the layout that it takes content from."""

from __future__ import annotations

from typing import Protocol

from mirror.admin.messages import OfferedImage
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository
from mirror.storage.entry import Entry
from mirror.storage.store import Store


class ImportSource(Protocol):
    """A layout, which an import asks for content. Any call raises OrderError or StorageError.

    `reserved` are the bytes that its content has in the store already, unproven or unnamed.
    """

    @property
    def reserved(self) -> int:
        """The bytes of room that the source has reserved."""

    async def images(self, store: Store) -> tuple[OfferedImage, ...]:
        """Return the images of the layout, if the order names none."""

    async def manifest(self, found: Descriptor) -> bytes | None:
        """Return the bytes of a manifest, still unproven; None if it is absent."""

    async def blob(
        self, store: Store, digest: Digest, size: int, repository: Repository
    ) -> Entry | None:
        """Store a proven blob of `size` bytes, linked to a repository; None if it is absent."""
