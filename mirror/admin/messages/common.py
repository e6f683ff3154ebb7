"""The parts of messages that several orders share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from mirror.util.command_error import CommandError

# A schema is built for the first order of its type: those of all orders take 0.1 s of a start.
STRICT = ConfigDict(extra="forbid", defer_build=True)
Positive = Annotated[int, Field(gt=0)]


# The kind of a failure: the mirror's state or limits forbid the order, the order is invalid, its
# image is not stored, a part is missing or overloaded, or the mirror itself fails.
Reason = Literal["refused", "invalid", "unknown", "unavailable", "failed"]


class OrderError(CommandError):
    """An order cannot be carried out; the message says why, in one line."""

    why: ClassVar[Reason] = "refused"


class OrderInvalid(OrderError):
    """The order is invalid in any state of the mirror: a name breaks the grammar, for example."""

    why = "invalid"


class NotStored(OrderError):
    """The image that the order names is not stored."""

    why = "unknown"


class Unavailable(OrderError):
    """The order needs a part that is missing or overloaded now, such as a running mirror."""

    why = "unavailable"


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
    """The order failed; `reason` says why, and `why` is its kind."""

    reason: str
    why: Reason = "refused"
    kind: Literal["refused"] = "refused"


def dry_run(dry: bool) -> str:
    """Return the flag of a `dry` order, as the operator types it."""
    return " --dry-run" if dry else ""
