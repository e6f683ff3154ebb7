"""`show`: the order and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT


@checked(frozen=True, config=STRICT)
class ShowOrder:
    """Report the stored content of an image or a repository."""

    target: str
    kind: Literal["show"] = "show"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return f"{self.kind} {self.target}"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its `size` in bytes, whether it is stored, and the command that made it.

    `shared` is the number of other stored images that need it. The command is the image's own
    claim, on one line, without control characters; None if it makes none.
    """

    digest: str
    size: int
    stored: bool
    shared: int
    command: str | None


@dataclass(frozen=True, slots=True)
class PlatformImage:
    """The manifest of one platform (`linux/arm64/v8`), with its layers if it is stored.

    The platform is empty if the image names none. `created` is the time of its making,
    by its own claim.
    """

    platform: str
    digest: str
    stored: bool
    bytes: int
    alone: int
    created: str | None
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Attached:
    """A stored manifest that claims to be about the image: a signature, an attestation, an SBOM.

    Nothing here proves the claim.
    """

    digest: str
    what: str
    media_type: str


@dataclass(frozen=True, slots=True)
class ImageTag:
    """A tag: when upstream last confirmed it (epoch seconds), and whether that is fresh."""

    tag: str
    digest: str
    checked: int
    fresh: bool
    pinned: bool


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image: a tag or a manifest of a repository, or a repository (then `digest` is empty).

    Times in epoch seconds, 0 if not known; sizes in bytes. `tags` are all tags of the
    repository (for an image: the tags that lead to it). `parents` are stored indexes that contain
    it, `untagged` the manifests of a repository that no tag leads to.
    """

    reference: str
    repository: str
    digest: str
    media_type: str
    bytes: int
    alone: int
    checked: int
    used: int
    pinned: bool
    tags: tuple[ImageTag, ...]
    platforms: tuple[PlatformImage, ...]
    parents: tuple[str, ...]
    attached: tuple[Attached, ...]
    untagged: tuple[str, ...] = ()
    kind: Literal["shown"] = "shown"
