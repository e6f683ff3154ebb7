"""An archive of images as the body of an answer: an OCI layout that no part of the mirror keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from mirror.admin.archives.exporting import Exporting
from mirror.admin.archives.tar_writer import TarWriter
from mirror.admin.incoming import PATIENCE
from mirror.admin.messages import Exported, OrderError, Piece, Record, Refused
from mirror.console.reply import NO_STORE, head_lines
from mirror.console.transfers import Transfers
from mirror.storage.errors import Stopping, StorageError
from mirror.web.reply import Reply
from mirror.web.sending import ClientStream

_NAME = "images.tar"


@dataclass(frozen=True, slots=True)
class ArchiveStream:
    """The answer to an export, made of its records; each content is proven on its way.

    An export that fails breaks the connection off: an archive without its index.json, which is
    the last file, is taken for whole by no reader.
    """

    records: AsyncGenerator[Record, None]
    transfers: Transfers
    media_type: ClassVar[str] = "application/x-tar"

    def reply(self) -> Reply:
        """Return the reply to send."""
        head = head_lines(
            self.media_type,
            NO_STORE,
            {
                "Content-Disposition": f'attachment; filename="{_NAME}"',
                "X-Accel-Buffering": "no",
            },
        )
        return Reply(200, head, length=None, body=_Body(self), last=True)


class _Body:
    """The body of an archive."""

    def __init__(self, stream: ArchiveStream) -> None:
        self._stream = stream

    async def send(self, client: ClientStream) -> None:
        """Send the archive; raises StorageError, ConnectionError if the client leaves."""
        try:
            ends = self._stream.transfers.ended_by_stop()
            async with ends, aclosing(self._stream.records) as records:
                await _send(records, client)
        except TimeoutError:
            raise Stopping from None

    def close(self) -> None:
        """Let go of it."""


async def _send(records: AsyncGenerator[Record, None], client: ClientStream) -> None:
    """Send the files of the layout as their content comes; raises StorageError."""
    outgoing = _Outgoing()
    exporting = Exporting(TarWriter(outgoing))
    try:
        async for record in records:
            if isinstance(record, Refused):
                raise StorageError(record.reason)
            await _take(exporting, record)
            await _hand_over(outgoing, client)
            if isinstance(record, Exported):
                exporting.finish(list(record.images))
                await _hand_over(outgoing, client)
    except OrderError as error:
        raise StorageError(str(error)) from None


async def _take(exporting: Exporting, record: Record) -> None:
    """Write a record into the archive: the hash of a piece takes a millisecond, on a thread."""
    if isinstance(record, Piece):
        await asyncio.to_thread(exporting.take, record)
    else:
        exporting.take(record)


async def _hand_over(outgoing: _Outgoing, client: ClientStream) -> None:
    """Send the written bytes; raises StorageError for a client that takes none."""
    if data := outgoing.taken():
        try:
            async with asyncio.timeout(PATIENCE):
                await client.data(data)
        except TimeoutError:
            raise StorageError(f"the client took nothing for {PATIENCE:.0f} s") from None


class _Outgoing:
    """The written bytes of an archive, until they are sent."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Take bytes."""
        self._pieces.append(data)

    def flush(self) -> None:
        """Do nothing: all bytes are taken."""

    def taken(self) -> bytes:
        """Return the bytes, and forget them."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
