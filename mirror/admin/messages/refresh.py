"""`refresh`: the order and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT, Reason
from mirror.admin.messages.pin import Targets


@checked(frozen=True, config=STRICT)
class RefreshOrder:
    """Ask upstream about tags now, however fresh they are, and fetch their changed manifests."""

    targets: Targets
    kind: Literal["refresh"] = "refresh"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return " ".join([self.kind, *self.targets])


@dataclass(frozen=True, slots=True)
class RefreshedImage:
    """A tag with its stored manifest before the order and after it; or the reason for a failure.

    A digest is empty if nothing of the tag was stored then. `why` is the kind of the reason.
    """

    reference: str
    before: str
    digest: str
    changed: bool
    refused: str | None = None
    why: Reason | None = None


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The tags, in the order of their naming."""

    images: tuple[RefreshedImage, ...]
    kind: Literal["refreshed"] = "refreshed"
