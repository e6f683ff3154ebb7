"""`du`: the order and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT


@checked(frozen=True, config=STRICT)
class DuOrder:
    """Report the use of the disk: `limit` of its repositories, after the repository `after`."""

    limit: Annotated[int, Field(gt=0, le=1000)] | None = None
    after: str | None = None
    kind: Literal["du"] = "du"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return self.kind


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """A tag or an untagged manifest: its stored bytes, and the bytes that it `alone` needs."""

    reference: str
    digest: str
    bytes: int
    alone: int


@dataclass(frozen=True, slots=True)
class RepositoryUsage:
    """A repository: the bytes that it holds, and the bytes that it `alone` holds."""

    repository: str
    bytes: int
    alone: int
    images: tuple[ImageUsage, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """The use of the disk, in bytes. The largest repositories are first.

    `used` is the sum of kept, partial, promised, index, leaving and quarantine.
    `kept` is the sum of the bytes that each repository holds alone, the bytes that several share,
    and the bytes that are linked to no repository yet. `pinned` is a part of kept: the bytes that
    pinned images keep from eviction. `after` names the last repository if there are more.
    """

    limit: int
    used: int
    kept: int
    partial: int
    promised: int
    index: int
    leaving: int
    quarantine: int
    shared: int
    unclaimed: int
    repositories: tuple[RepositoryUsage, ...]
    pinned: int = 0
    after: str | None = None
    kind: Literal["usage"] = "usage"
