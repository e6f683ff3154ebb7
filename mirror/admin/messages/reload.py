"""`reload`: the order and its results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT
from mirror.settings.changes import change_lines


@checked(frozen=True, config=STRICT)
class ReloadOrder:
    """Read the configuration again, and apply it."""

    kind: Literal["reload"] = "reload"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return self.kind


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The changed keys that are in force, and the changed keys that need a restart."""

    changed: tuple[str, ...]
    restart: tuple[str, ...]
    kind: Literal["reloaded"] = "reloaded"

    def words(self) -> Iterator[str]:
        """Return a line for each kind of key."""
        return change_lines(self.changed, self.restart)


@dataclass(frozen=True, slots=True)
class Unusable:
    """The configuration cannot be used, and nothing was changed; `reason` says why."""

    reason: str
    kind: Literal["unusable"] = "unusable"
