"""`ls`: the order and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT

MOST_LISTED = 1000  # images on a page
Sort = Literal["name", "bytes", "used"]


@checked(frozen=True, config=STRICT)
class LsOrder:
    """List the stored images, a page at a time: `limit` of them, after the image `after`.

    `pattern` is a shell pattern of names as docker writes them, in short or in full, with or
    without a tag; `sort` is by name, by bytes (largest first) or by last use (newest first).
    """

    pattern: Annotated[str, Field(max_length=512)] | None = None
    sort: Sort = "name"
    limit: Annotated[int, Field(gt=0, le=MOST_LISTED)] | None = None
    after: str | None = None
    kind: Literal["ls"] = "ls"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return " ".join([self.kind, *([self.pattern] if self.pattern else [])])


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A tag, or a manifest that no tag leads to. Times in epoch seconds, 0 if not known.

    `bytes` are stored for it, of which it needs `alone`. `checked` is when upstream last confirmed
    the tag.
    """

    reference: str
    digest: str
    bytes: int
    alone: int
    checked: int
    used: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class StoredImages:
    """A page of images; `after` names its last one if there are more, `total` counts all."""

    images: tuple[StoredImage, ...]
    total: int
    after: str | None
    kind: Literal["stored_images"] = "stored_images"
