"""The heads of requests: where each ends, so that nothing behind one is parsed unasked."""

from __future__ import annotations

_END = b"\r\n\r\n"
_SEAM = len(_END) - 1  # bytes of an end that may have come with the piece before
_PIECE = 16 * 1024  # bytes of a head given out at once


class Heads:
    """Cuts what a client sends behind each head (RFC 9112, 2.1), however it arrives.

    `unended` is how many bytes of a head have been given out whose end has not come yet. An end
    that a parser sees elsewhere only makes a piece longer: whatever is no request is still for the
    parser to refuse.
    """

    def __init__(self) -> None:
        self._text = b""
        self._at = 0
        self._seam = b""
        self.unended = 0

    def __repr__(self) -> str:
        return f"<Heads: {len(self._text) - self._at} bytes waiting, {self.unended} of a head>"

    def is_one(self, data: bytes) -> bool:
        """Whether what has arrived is the whole of one head, as nearly always: add it not then."""
        ends = data.find(_END)
        return 0 <= ends == len(data) - len(_END) <= _PIECE and not (self._text or self.unended)

    def add(self, data: bytes) -> None:
        """Take in what has arrived."""
        rest = self._text[self._at :]
        self._text, self._at = rest + data if rest else data, 0

    def next(self) -> bytes:
        """Return what comes next, up to the end of a head at most; empty where nothing is left."""
        piece = self._text[self._at : self._at + _PIECE] if self._at else self._text[:_PIECE]
        ends = (self._seam + piece).find(_END)
        if ends >= 0:
            piece = piece[: ends + len(_END) - len(self._seam)]
            self._seam, self.unended = b"", 0
        else:
            self._seam = (self._seam + piece)[-_SEAM:]
            self.unended += len(piece)
        self._at += len(piece)
        if self._at >= len(self._text):
            self._text, self._at = b"", 0
        return piece

    def drop(self) -> int:
        """Forget what waits; returns how many bytes that was."""
        count = len(self._text) - self._at
        self._text, self._at = b"", 0
        return count
