"""The chunked coding of a body (RFC 9112, 7.1), decoded as it arrives; without I/O."""

from __future__ import annotations

import re

from mirror.oci.errors import RequestInvalid

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
_LONGEST = 4096  # bytes of a line with a size, and of a trailer
_MOST_TRAILERS = 64
_AT_ONCE = 512  # lines, two of each chunk: a chunk of one byte costs as much as one of a megabyte


class ChunkedDecoder:
    """Decodes a body. `ended` says whether its last chunk and its trailers are there.

    It is `behind` while received bytes wait for the next call of `take`.
    """

    def __init__(self) -> None:
        self.ended = False
        self.behind = False
        self._left = 0  # bytes of the present chunk
        self._in_chunk = False
        self._trailers: int | None = None  # lines, once the last chunk is there
        self._rest = b""

    def __repr__(self) -> str:
        return f"<ChunkedDecoder: {'ended' if self.ended else f'{self._left} bytes missing'}>"

    def take(self, data: bytes) -> bytes:
        """Return the content of received bytes, of some chunks at a time; raises RequestInvalid."""
        data, position = self._rest + data, 0
        found, self.behind = list[bytes](), True
        for _ in range(_AT_ONCE):
            if self._left:
                piece = data[position : position + self._left]
                self._left -= len(piece)
                position += len(piece)
                found.append(piece)
            if self.ended or self._left or (end := _line(data, position)) is None:
                self.behind = False
                break
            self._read(data[position:end])
            position = end + 2
        self._rest = data[position:]
        return b"".join(found)

    def _read(self, line: bytes) -> None:
        """Read a line between chunks."""
        if self._trailers is not None:
            self._trailers += 1
            self.ended = not line
            if self._trailers > _MOST_TRAILERS:
                raise RequestInvalid(f"a body has more than {_MOST_TRAILERS} trailers")
        elif self._in_chunk:
            if line:
                raise RequestInvalid("a chunk of the body is longer than its size")
            self._in_chunk = False
        else:
            self._begin(line)

    def _begin(self, line: bytes) -> None:
        size = _SIZE.fullmatch(line)
        if size is None:
            raise RequestInvalid("a chunk of the body has no valid size")
        self._left = int(size[1], 16)
        self._in_chunk = self._left > 0
        if not self._left:
            self._trailers = 0


def _line(data: bytes, position: int) -> int | None:
    """Return the end of a line, None if it has not come yet; raises RequestInvalid."""
    end = data.find(b"\r\n", position, position + _LONGEST)
    if end < 0 and len(data) - position >= _LONGEST:
        raise RequestInvalid(f"a line of the body's coding has more than {_LONGEST} bytes")
    return None if end < 0 else end
