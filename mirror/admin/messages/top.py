"""`top`: the order and its result: the images and clients with the most pulls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT


@checked(frozen=True, config=STRICT)
class TopOrder:
    """Report the images and clients with the most pulls in a time span, by whole hours."""

    span: Literal["hour", "day", "week"] = "day"
    kind: Literal["top"] = "top"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return f"{self.kind} {self.span}"


@dataclass(frozen=True, slots=True)
class TopRow:
    """A repository (`docker.io/library/nginx`) or a client, with its pulls and bytes sent.

    A pull is a GET of a manifest, as in `asked`. Engines pull by digest once they know it, so a
    pull does not tell which tag it was for.
    """

    name: str
    pulls: int
    sent: int


@dataclass(frozen=True, slots=True)
class Top:
    """The largest first, from `since` (epoch seconds) on. Pulls of rare names may be overrated.

    Each hour keeps 50 names of each kind. With more names than it can count, the pulls of a new
    name begin with those of the largest name that was dropped for it.
    """

    span: Literal["hour", "day", "week"]
    images: tuple[TopRow, ...]
    clients: tuple[TopRow, ...]
    since: int
    kind: Literal["top_lists"] = "top_lists"
