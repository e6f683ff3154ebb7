"""`purge`: the order and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT, dry_run


@checked(frozen=True, config=STRICT)
class PurgeOrder:
    """Remove an image, a repository, or content by its digest, as the operator names it.

    A `dry` order only reports.
    """

    target: str
    dry: bool = False
    kind: Literal["purge"] = "purge"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return f"purge {self.target}{dry_run(self.dry)}"


@dataclass(frozen=True, slots=True)
class Purged:
    """The numbers of removed tags and files, and of files that other images need; bytes freed.

    After a `dry` order these are the numbers that `purge` would remove.
    """

    target: str
    tags: int
    files: int
    shared: int
    freed: int
    dry: bool = False
    kind: Literal["purged"] = "purged"
