"""Byte ranges: the Range and Content-Range headers (RFC 9110, 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirror.oci.errors import RangeInvalid, RangeMalformed

_RANGE = re.compile(r"(\d{0,18})-(\d{0,18})", re.ASCII)
_CONTENT_RANGE = re.compile(
    r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """The number of bytes."""
        return self.stop - self.start

    def header(self) -> str:
        """Return the Range header that requests this span."""
        return f"bytes={self.start}-{self.stop - 1}"

    def content_range(self, size: int) -> str:
        """Return the Content-Range header for this span of a body of `size` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse(header: str, size: int) -> Span | None:
    """Parse a Range header for a body of `size` bytes; None means to send the whole body.

    None for a unit other than bytes, and for several ranges (RFC 9110, 14.2). Raises
    RangeMalformed, or RangeInvalid if the range covers no byte.
    """
    unit, _, ranges = header.partition("=")
    if unit.strip().lower() != "bytes" or "," in ranges:
        return None
    match = _RANGE.fullmatch(ranges.strip())
    if match is None or match.group() == "-":
        raise RangeMalformed(header)
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size)
    if last and int(last) < int(first):
        raise RangeMalformed(header)
    if int(first) >= size:
        raise RangeInvalid(size)
    return Span(int(first), min(int(last) + 1, size) if last else size)


def _suffix(length: int, size: int) -> Span:
    if min(length, size) == 0:
        raise RangeInvalid(size)
    return Span(size - min(length, size), size)


def parse_content_range(header: str) -> tuple[Span, int | None] | None:
    """Parse a Content-Range header: the span, and the whole size or None if not stated.

    Returns None for an invalid header (RFC 9110, 14.4).
    """
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    size = None if match[3] == "*" else int(match[3])
    if first > last or (size is not None and last >= size):
        return None
    return Span(first, last + 1), size
