"""The mirror's end of a transfer: the order, and the content that the command supplies for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from mirror.admin.json_lines import read_record
from mirror.admin.messages import OrderError, Piece, Record

if TYPE_CHECKING:
    from aiohttp import StreamReader

_MAX_ORDER = 8 * 1024 * 1024  # bytes: the images of a large list
_MAX_RECORD = 4096  # bytes of a record that a command sends
_MAX_PIECE = 4 * 1024 * 1024  # bytes
PATIENCE = 600.0  # seconds for the next bytes: the command may wait for a slow disk


class Incoming:
    """The body of a request: its first line is the order, its records follow."""

    def __init__(self, body: StreamReader) -> None:
        self._body = body
        self._rest = bytearray()

    async def order(self) -> bytes:
        """Return the line of the order; raises OrderError."""
        return await self._line(_MAX_ORDER)

    async def records(self) -> AsyncIterator[Record]:
        """Yield the records that the command sends, with the bytes of pieces; raises OrderError."""
        while True:
            record = read_record(await self._line(_MAX_RECORD))
            if isinstance(record, Piece):
                record = replace(record, data=await self._exactly(record.length))
            yield record

    async def _line(self, most: int) -> bytes:
        """Return the bytes up to a line's end, or to the end of the body; raises OrderError."""
        while (end := self._rest.find(b"\n")) < 0:
            if len(self._rest) > most:
                raise OrderError(f"a line of the order has more than {most} bytes")
            if not (data := await self._more()):
                end = len(self._rest)
                break
            self._rest += data
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    async def _exactly(self, length: int) -> bytes:
        if not 0 < length <= _MAX_PIECE:
            raise OrderError(f"a piece has {length} bytes; expected 1 to {_MAX_PIECE}")
        while len(self._rest) < length:
            if not (data := await self._more()):
                raise OrderError("the command ended before it had sent everything")
            self._rest += data
        piece = bytes(self._rest[:length])
        del self._rest[:length]
        return piece

    async def _more(self) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._body.readany()
        except TimeoutError:
            raise OrderError(f"the command sent nothing for {PATIENCE:.0f} s") from None
        except ConnectionError:
            raise OrderError("the command has gone") from None
