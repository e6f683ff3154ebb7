"""Content on its way between a command and the mirror: records, with bytes between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Content:
    """The head of a blob or manifest: `size` bytes follow, in pieces."""

    digest: str
    size: int
    kind: Literal["content"] = "content"


@dataclass(frozen=True, slots=True)
class Piece:
    """The next `length` bytes. On the wire `data` follows the record's line, as it is."""

    length: int
    data: bytes = field(default=b"", repr=False)
    kind: Literal["piece"] = "piece"


@dataclass(frozen=True, slots=True)
class Absent:
    """The layout has no such content."""

    digest: str
    kind: Literal["absent"] = "absent"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The content that the mirror wants next: each is answered by its content, or its absence.

    `bytes` is the sum of their announced sizes.
    """

    digests: tuple[str, ...]
    bytes: int
    kind: Literal["wanted"] = "wanted"
