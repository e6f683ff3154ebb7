"""The heads of requests: splits received bytes, so that the parser gets one head at a time."""

from __future__ import annotations

from aiohttp import web

_END = b"\r\n\r\n"
_SEAM = len(_END) - 1  # bytes of an end that may be in the previous piece
_PIECE = 16 * 1024  # bytes of a head per piece


class RequestHeads:
    """Splits a client's bytes after each head (RFC 9112, 2.1), however they arrive.

    `unended` is the number of bytes returned of a head that has not ended yet. If the parser sees
    the end of a head elsewhere, a piece only gets longer: the parser still refuses invalid
    requests.
    """

    def __init__(self) -> None:
        self._text = b""
        self._at = 0
        self._seam = b""
        self.unended = 0

    def __repr__(self) -> str:
        return (
            f"<RequestHeads: {len(self._text) - self._at} bytes waiting, {self.unended} of a head>"
        )

    @property
    def is_empty(self) -> bool:
        """Whether no byte of a head is waiting, or was returned of a head that has not ended."""
        return not (self._text or self.unended)

    def is_one(self, data: bytes) -> bool:
        """Whether `data` is exactly one head, as it usually is: it need not be added then."""
        ends = data.find(_END)
        return 0 <= ends == len(data) - len(_END) <= _PIECE and self.is_empty

    def add(self, data: bytes) -> None:
        """Add received bytes."""
        rest = self._text[self._at :]
        self._text, self._at = rest + data if rest else data, 0

    def next(self) -> bytes:
        """Return the next piece, up to the end of a head at most; empty if nothing is left."""
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

    def drop(self) -> bytes:
        """Discard the waiting bytes; returns them."""
        rest = self._text[self._at :]
        self._text, self._at = b"", 0
        return rest


def whole_head_of(request: web.BaseRequest) -> bytes | None:
    """Return the bytes of a request's head, if they came alone and in one piece."""
    message, head = getattr(request.protocol, "whole_head", None) or (None, None)
    return head if message is request._message else None
