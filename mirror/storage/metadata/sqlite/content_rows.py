"""The rows of stored content in SQL."""

from __future__ import annotations

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.storage.metadata.rows import BlobRow, ChildRow, LinkRow, TotalRow, TypeRow
from mirror.storage.metadata.sqlite import columns
from mirror.storage.metadata.sqlite import statements as sql
from mirror.storage.metadata.sqlite.columns import digest_bytes
from mirror.storage.metadata.sqlite.database import Write
from mirror.storage.metadata.sqlite.file import IndexFile
from mirror.storage.metadata.write_behind import WriteBehind


class ContentRows(WriteBehind[Write]):
    """The rows of stored content: `ContentMetadata`. `interval` is in seconds."""

    def __init__(self, file: IndexFile, interval: float) -> None:
        super().__init__(file, interval)
        self._file = file

    def put_blob(self, row: BlobRow) -> None:
        """See `ContentMetadata`."""
        self._hasten(row.digest)
        args = (digest_bytes(row.digest), row.size, row.media_type, row.used_at, row.changed_at)
        # The file alone tells as much as the row of a blob that was not proven since it was found.
        found = row.media_type is None and row.changed_at is None
        (self.later_still if found else self.later)(("blob", row.digest), (sql.PUT_BLOB, args))

    def _hasten(self, digest: Digest) -> None:
        """Have the pending row of a digest written before the next rows of the digest.

        A pending deletion comes first: otherwise it would delete the newer row, and its links.
        """
        self.hasten(("drop", digest))
        self.hasten(("blob", digest))

    def put_child(self, row: ChildRow) -> None:
        """See `ContentMetadata`."""
        self._hasten(row.manifest)
        args = (digest_bytes(row.manifest), digest_bytes(row.digest))
        self.later(("child", *row), (sql.PUT_CHILD, args))

    def put_type(self, row: TypeRow) -> None:
        """See `ContentMetadata`."""
        self._hasten(row.digest)
        args = (digest_bytes(row.digest), row.upstream, row.media_type)
        self.later(("type", row.digest, row.upstream), (sql.PUT_TYPE, args))

    def put_link(self, row: LinkRow) -> None:
        """See `ContentMetadata`."""
        self._hasten(row.digest)
        self.later(("link", *row), (sql.PUT_LINK, columns.link_columns(row)))
        self.soon()

    def drop_link(self, row: LinkRow) -> None:
        """See `ContentMetadata`."""
        self.later(("link", *row), (sql.DROP_LINK, columns.link_columns(row)))

    def touch(self, digest: Digest, used_at: int) -> None:
        """See `ContentMetadata`."""
        if not self.awaits(("blob", digest)):
            self.later_still(("touch", digest), (sql.TOUCH, (digest_bytes(digest), used_at)))

    def drop(self, digest: Digest) -> None:
        """See `ContentMetadata`."""
        self.cancel(("blob", digest))
        # Not under the key of the row: a newer row must not replace the deletion of old links.
        self.later_still(("drop", digest), (sql.DROP_BLOB, (digest_bytes(digest),)))

    async def total(self) -> TotalRow:
        """See `ContentMetadata`."""
        [total] = await self._file.fetch(TotalRow, sql.TOTAL)
        return total

    async def blobs(self) -> list[BlobRow]:
        """See `ContentMetadata`."""
        return await self._file.fetch(columns.blob_row, sql.BLOBS)

    async def children(self) -> list[ChildRow]:
        """See `ContentMetadata`."""
        return await self._file.fetch(columns.child_row, sql.CHILDREN)

    async def types(self) -> list[TypeRow]:
        """See `ContentMetadata`."""
        return await self._file.fetch(columns.type_row, sql.TYPES)

    async def links(self) -> list[LinkRow]:
        """See `ContentMetadata`."""
        repositories: dict[tuple[str, str], Repository] = {}

        def link(digest: bytes, upstream: str, name: str) -> LinkRow:
            repository = repositories.get((upstream, name))
            if repository is None:
                repository = repositories[upstream, name] = Repository(upstream, name)
            return LinkRow(columns.digest_of(digest), repository)

        return await self._file.fetch(link, sql.LINKS)
