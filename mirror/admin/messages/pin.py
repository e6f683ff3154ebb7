"""`pin` and `unpin`: the orders and their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT, Reason

MOST_NAMED = 1000  # images that one order names
Targets = Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_NAMED)]


@checked(frozen=True, config=STRICT)
class PinOrder:
    """Keep stored images from eviction, and their tags fresh, until they are unpinned."""

    targets: Targets
    kind: Literal["pin"] = "pin"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return " ".join([self.kind, *self.targets])


@checked(frozen=True, config=STRICT)
class UnpinOrder:
    """Let images be evicted again."""

    targets: Targets
    kind: Literal["unpin"] = "unpin"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return " ".join([self.kind, *self.targets])


@dataclass(frozen=True, slots=True)
class PinChange:
    """An image that was pinned or unpinned, with its stored `bytes`; or the reason why it was not.

    An image that was so before counts as changed, too. `why` is the kind of the reason.
    """

    reference: str
    digest: str
    bytes: int
    refused: str | None = None
    why: Reason | None = None


@dataclass(frozen=True, slots=True)
class Pinned:
    """The images that were to be pinned, or unpinned, in the order of their naming.

    All pinned images take `used` bytes, of the `limit` that they may take.
    """

    images: tuple[PinChange, ...]
    pinned: bool
    used: int
    limit: int
    kind: Literal["pinned"] = "pinned"
