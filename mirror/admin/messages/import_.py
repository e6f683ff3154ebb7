"""`import`: the order and its result; the content itself comes in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT, Positive
from mirror.oci.layout import MOST_IMAGES


@checked(frozen=True, config=STRICT)
class OfferedImage:
    """An image of a layout: its name, and the descriptor of its manifest."""

    name: str
    digest: str
    media_type: str
    size: Positive


@checked(frozen=True, config=STRICT)
class ImportOrder:
    """Take in images; all content is proven, and `source` is the place of their layout.

    Without `images`, the index.json of an archive has their names. `name` is for the only image of
    an archive without names.
    """

    source: str
    images: Annotated[tuple[OfferedImage, ...], Field(max_length=MOST_IMAGES)] = ()
    name: str = ""
    kind: Literal["import"] = "import"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        name = f" --name {self.name}" if self.name else ""
        return f"{self.kind} {self.source!r}{name}"


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """An image that was taken in: the number of its blobs and manifests, and their bytes.

    `missing` are the platforms of an index that the layout lacks, as it may. `absent` is the number
    of blobs that it lacks and should have, `lacking` has some of their digests. An image with a
    `reason` was refused; so is an image that lacks blobs, and its tag stays as it was.
    """

    name: str
    digest: str
    blobs: int = 0
    bytes: int = 0
    missing: tuple[str, ...] = ()
    absent: int = 0
    lacking: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """The images, and the number and bytes of the blobs and manifests that were not stored yet."""

    images: tuple[ImportedImage, ...]
    blobs: int
    bytes: int
    kind: Literal["imported"] = "imported"
