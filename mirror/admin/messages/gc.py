"""`gc`: the order and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT, dry_run


@checked(frozen=True, config=STRICT)
class GcOrder:
    """Remove useless files and rows, and evict down to the quota; a `dry` order only reports."""

    dry: bool = False
    kind: Literal["gc"] = "gc"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return f"gc{dry_run(self.dry)}"


@dataclass(frozen=True, slots=True)
class Collected:
    """The numbers of partials, files without a row, rows without a file, and evicted blobs.

    `freed` is in bytes. After a `dry` order these are the numbers that `gc` would remove.
    """

    partials: int
    orphans: int
    rows: int
    evicted: int
    freed: int
    dry: bool = False
    kind: Literal["collected"] = "collected"
