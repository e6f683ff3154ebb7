"""A packed body: the bytes of a gzip that a host made of what it was asked for, unpacked."""

from __future__ import annotations

import zlib

_MAGIC = b"\x1f\x8b"  # how it begins (RFC 1952, 2.3.1)
_PIECE = 1024 * 1024  # bytes at a time, however much a few packed ones make
_MEMBERS = 256  # gzips at a time
_ENOUGH = 64 * 1024  # bytes that are worth a piece
_LITTLE = 16 * _PIECE  # bytes that may come of however few
_MOST = 20  # bytes for each packed one; tars of text have a fifth of it, a bomb a thousand


class Packed:
    """Unpacks what is fed, a piece at a time. What is no gzip, or not to its end, stays as it is.

    So does what swells beyond a bound: no host fills the disk by a few bytes. Whether it was right
    to unpack shows in the digest.
    """

    def __init__(self) -> None:
        self._fed = b""
        self._inflater = _inflater()
        self._begun = self._plain = False
        self._taken = self._given = 0  # bytes

    def __repr__(self) -> str:
        return f"<Packed: {len(self._fed)} bytes to unpack>"

    @property
    def whole(self) -> bool:
        """Whether it may end here."""
        return self._plain or not self._begun or self._inflater.eof

    def feed(self, data: bytes) -> None:
        """Take in what has arrived."""
        self._fed += data
        self._taken += len(data)

    def some(self) -> tuple[bytes, bool]:
        """Return what can be told of what was fed, and whether that was cut short.

        Of many short gzips, one behind the other, each takes as long as a large piece.
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
        """Return what can be told of what was fed, nothing if that is not enough."""
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
        """Return what is left when no more will come."""
        return self._rest()


def _inflater() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
