"""Gzip bodies: blobs that a host sent as gzip are decompressed."""

from __future__ import annotations

import zlib

_MAGIC = b"\x1f\x8b"  # the first bytes of a gzip (RFC 1952, 2.3.1)
_PIECE = 1024 * 1024  # bytes of output at a time, bounding expansion
_MEMBERS = 256  # gzips at a time
_ENOUGH = 64 * 1024  # bytes of output that end a piece
_LITTLE = 16 * _PIECE  # bytes of output allowed for any input
_MOST = 20  # bytes of output per byte of input; tars of text have 4, a bomb 1000


class GzipBody:
    """An incremental gzip decoder. Input that is not gzip, or is damaged, passes through unchanged.

    So does input that expands beyond a bound: a host must not fill the disk with a few bytes. The
    digest proves whether decompressing was right.
    """

    def __init__(self) -> None:
        self._fed = b""
        self._inflater = _inflater()
        self._begun = self._plain = False
        self._taken = self._given = 0  # bytes

    def __repr__(self) -> str:
        return f"<GzipBody: {len(self._fed)} bytes to unpack>"

    @property
    def whole(self) -> bool:
        """Whether the input may end here."""
        return self._plain or not self._begun or self._inflater.eof

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._fed += data
        self._taken += len(data)

    def some(self) -> tuple[bytes, bool]:
        """Return a piece of output, and whether more can be decoded without new input.

        Bounds the number of gzip members per call: each short one takes as long as a large piece.
        """
        found: list[bytes] = []
        size = 0
        for _ in range(_MEMBERS):
            before = len(self._fed)
            found.append(self.piece())
            size += len(found[-1])
            if size >= _ENOUGH or len(self._fed) in (0, before):
                return b"".join(found), False
        return b"".join(found), True

    def piece(self) -> bytes:
        """Return the next piece of output; empty if more input is needed."""
        if not self._begun and not self._plain:
            if len(self._fed) < len(_MAGIC):
                return b""
            self._begun = self._fed.startswith(_MAGIC)
            self._plain = not self._begun
        try:
            return self._rest() if self._plain else self._inflate()
        except zlib.error:
            self._plain = True
            return self._rest()

    def _inflate(self) -> bytes:
        if self._inflater.eof:  # another gzip may follow (RFC 1952, 2.2)
            if not self._fed:
                return b""
            self._inflater = _inflater()
        piece = self._inflater.decompress(self._fed, _PIECE)
        self._given += len(piece)
        if self._given > _LITTLE + _MOST * self._taken:
            self._plain = True
        self._fed = self._inflater.unconsumed_tail or self._inflater.unused_data
        return piece

    def _rest(self) -> bytes:
        rest, self._fed = self._fed, b""
        return rest

    def end(self) -> bytes:
        """Return the remaining output at the end of the input."""
        return self._rest()


def _inflater() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
