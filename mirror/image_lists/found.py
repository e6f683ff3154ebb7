"""The images found in a file, and the skipped texts, each with its line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mirror.oci.errors import RegistryError, shown
from mirror.oci.image_name import ImageName, parse_image
from mirror.oci.platform import parse_platform

MOST_IMAGES = 10_000  # of one file; the largest honest ones have some thousands
_MOST_SKIPPED = 1000


class UnreadableList(Exception):
    """A file is no list of images, or is beyond a bound; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image, and the one platform that its file asks for, if it does; the line is from 1."""

    name: ImageName
    line: int
    platform: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A text in the place of an image that is left out, and the reason; the line is from 1."""

    line: int
    reason: str


@dataclass(slots=True)
class ImageList:
    """The images of a file in their order, each once, and the skipped texts."""

    images: list[ListedImage] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    _seen: set[tuple[ImageName, str | None]] = field(default_factory=set)

    def add(self, text: str, line: int, platform: str | None = None) -> None:
        """Add an image by its name, or skip a text that is none; raises UnreadableList."""
        try:
            name = parse_image(text)
            platform = None if platform is None else str(parse_platform(platform))
        except RegistryError:
            self.skip(line, f"{shown(text)} is no image name")
            return
        except ValueError as error:
            self.skip(line, f"{shown(text)} is skipped: its platform is {error}")
            return
        if (name, platform) in self._seen:
            return
        if len(self.images) >= MOST_IMAGES:
            raise UnreadableList(f"has more than {MOST_IMAGES} images")
        self._seen.add((name, platform))
        self.images.append(ListedImage(name, line, platform))

    def skip(self, line: int, reason: str) -> None:
        """Note that a text is left out."""
        if len(self.skipped) < _MOST_SKIPPED:
            self.skipped.append(Skipped(line, reason))

    def __iter__(self) -> Iterator[ListedImage]:
        return iter(self.images)
