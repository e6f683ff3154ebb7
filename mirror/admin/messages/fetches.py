"""`fetches`: the order and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT


@checked(frozen=True, config=STRICT)
class FetchesOrder:
    """List the fetches under way."""

    kind: Literal["fetches"] = "fetches"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return self.kind


@dataclass(frozen=True, slots=True)
class RunningFetch:
    """A fetch under way: `received` of `size` bytes, at `rate` bytes a second, for `seconds`."""

    repository: str
    digest: str
    received: int
    size: int | None
    rate: float
    seconds: float
    followers: int


@dataclass(frozen=True, slots=True)
class Fetches:
    """The fetches under way, the oldest first."""

    fetches: tuple[RunningFetch, ...]
    kind: Literal["running_fetches"] = "running_fetches"
