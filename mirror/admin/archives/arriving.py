"""The bytes of an archive that arrives once, in its own order: its files, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from mirror.admin.archives.tar_headers import BLOCK, TarHeaders, cut_off
from mirror.oci.layout import LayoutInvalid

_MOST_AFTER = 1024 * 1024  # bytes after the end of an archive: tar pads up to 10 KiB
_AT_ONCE = 64  # headers between two turns of other tasks: hundreds may arrive in one piece


class ArrivingFile:
    """A file of an archive: its path, its size in bytes, and its bytes, which are read once."""

    def __init__(self, path: str, size: int, body: _Body) -> None:
        self.path = path
        self.size = size
        self.left = size  # bytes
        self._body = body

    def __repr__(self) -> str:
        return f"<ArrivingFile {self.path!r}: {self.left} of {self.size} bytes are left>"

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes that are left; raises LayoutInvalid if the archive ends before."""
        while self.left:
            data = await self._body.some(self.left)
            if not data:
                raise cut_off(self.path)
            self.left -= len(data)
            yield data

    async def whole(self) -> bytes:
        """Return all bytes of a small file; raises LayoutInvalid."""
        return b"".join([piece async for piece in self.pieces()])

    async def peek(self) -> bytes:
        """Return the first byte without reading it, b"" of an empty file."""
        return await self._body.peek() if self.left else b""


async def files(read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[ArrivingFile]:
    """Yield the regular files of an archive; the rest of each is skipped.

    `read` returns the next bytes of the archive, b"" at its end. Raises LayoutInvalid.
    """
    body, headers, position, count = _Body(read), TarHeaders(), 0, 0
    while header := headers.read(await body.exactly(BLOCK), position):
        position += BLOCK + header.size + header.padding
        count += 1
        if not count % _AT_ONCE:
            await asyncio.sleep(0)
        file = ArrivingFile(header.name or "", header.size, body)
        if header.extends:
            headers.extend(header, await file.whole())
        elif header.name is not None:
            yield file
        async for _ in file.pieces():
            pass
        await body.exactly(header.padding)
    await body.drain()


class _Body:
    """The bytes of the archive, of which few are held."""

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._held = b""
        self._at = 0  # the first byte of these that was not returned yet

    async def peek(self) -> bytes:
        """Return the next byte, b"" at the end."""
        if self._at >= len(self._held):
            self._held, self._at = await self._read(), 0
        return self._held[self._at : self._at + 1]

    async def some(self, most: int) -> bytes:
        """Return up to `most` bytes, b"" at the end."""
        await self.peek()
        data = self._held[self._at : self._at + most]
        self._at += len(data)
        return data

    async def exactly(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end."""
        found = b""
        while len(found) < size and (data := await self.some(size - len(found))):
            found += data
        return found

    async def drain(self) -> None:
        """Read to the end: the answer to a request may overtake no byte of it."""
        size = 0
        while data := await self.some(_MOST_AFTER):
            size += len(data)
            if size > _MOST_AFTER:
                raise LayoutInvalid(f"more than {_MOST_AFTER} bytes follow its end")
