"""The parts of messages that several orders share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from mirror.util.command_error import CommandError

STRICT = ConfigDict(extra="forbid")
Positive = Annotated[int, Field(gt=0)]


class OrderError(CommandError):
    """An order cannot be carried out; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress: blobs and bytes that are done, out of all."""

    blobs: int
    all_blobs: int
    bytes: int
    all_bytes: int
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class Refused:
    """The order failed; `reason` says why."""

    reason: str
    kind: Literal["refused"] = "refused"


def dry_run(dry: bool) -> str:
    """Return the flag of a `dry` order, as the operator types it."""
    return " --dry-run" if dry else ""
