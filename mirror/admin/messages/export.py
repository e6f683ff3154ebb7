"""`export`: the order and its result; the content itself comes in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT


@checked(frozen=True, config=STRICT)
class ExportOrder:
    """Hand out the stored content of images, of all platforms or of these (`linux/arm64`).

    With `all_or_none`, the order is refused unless every image can be handed out.
    """

    images: Annotated[tuple[str, ...], Field(min_length=1, max_length=4096)]
    platforms: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    all_or_none: bool = False
    kind: Literal["export"] = "export"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        platforms = (f"--platform {each}" for each in self.platforms)
        return " ".join((self.kind, *self.images, *platforms))


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """An image: its manifest (`size` in bytes), and all its content (`bytes`, `blobs`).

    `platforms` are complete, `missing` ones are not stored, or not whole. An image with a `reason`
    was not exported.
    """

    name: str
    digest: str = ""
    media_type: str = ""
    size: int = 0
    blobs: int = 0
    bytes: int = 0
    platforms: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Exported:
    """The images, the number of blobs and manifests that were handed out, and their bytes."""

    images: tuple[ExportedImage, ...]
    blobs: int
    bytes: int
    kind: Literal["exported"] = "exported"
