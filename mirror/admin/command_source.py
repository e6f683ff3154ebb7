"""The layout that a command has: its content is taken piece by piece, in step with the command."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mirror.admin.messages import (
    Absent,
    Content,
    OfferedImage,
    OrderError,
    OrderInvalid,
    Piece,
    Record,
)
from mirror.admin.proven_blob import store_proven, wrong_size
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor
from mirror.oci.names import Repository
from mirror.storage.entry import Entry
from mirror.storage.store import Store


class CommandSource:
    """An ImportSource: the records that a command sends, after the import has asked for them."""

    reserved = 0

    def __init__(self, records: AsyncIterator[Record]) -> None:
        self._records = records

    def __repr__(self) -> str:
        return "<CommandSource>"

    async def images(self, store: Store) -> tuple[OfferedImage, ...]:  # noqa: ARG002 - see there
        """Refuse an order without images: the command reads the index; raises OrderInvalid."""
        raise OrderInvalid("the order names no images")

    async def manifest(self, found: Descriptor) -> bytes | None:
        """Return the bytes of a manifest, still unproven; None if it is absent."""
        if not await self._is_coming(found.digest, found.size):
            return None
        pieces = [piece async for piece in self._pieces(found.digest, found.size)]
        return b"".join(pieces)

    async def blob(
        self, store: Store, digest: Digest, size: int, repository: Repository
    ) -> Entry | None:
        """Store a proven blob; None if it is absent."""
        if not await self._is_coming(digest, size):
            return None
        return await store_proven(store, digest, size, self._pieces(digest, size), repository)

    async def _is_coming(self, digest: Digest, size: int) -> bool:
        """Whether the wanted content follows; raises OrderError if its size is another."""
        match await self._next():
            case Absent(digest=found) if found == digest:
                return False
            case Content(digest=found, size=sent) if found == digest:
                if sent != size:
                    raise wrong_size(digest, sent, size)
                return True
        raise OrderError("the command sent other content than the wanted one")

    async def _pieces(self, digest: Digest, size: int) -> AsyncIterator[bytes]:
        left = size
        while left:
            piece = await self._next()
            if not isinstance(piece, Piece) or not 0 < piece.length <= left:
                raise OrderError(f"{digest} did not come whole")
            left -= piece.length
            yield piece.data

    async def _next(self) -> Record:
        record = await anext(self._records, None)
        if record is None:
            raise OrderError("the command ended before it had sent everything")
        return record
