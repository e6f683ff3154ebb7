"""The keys of `[[schedules]]`, about images to warm at certain times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mirror.oci.errors import RegistryError
from mirror.oci.image_name import ImageName, parse_image
from mirror.oci.platform import parse_platform
from mirror.settings.measures import Seconds
from mirror.settings.values import FilePath, Pulls
from mirror.util.cron import parse_cron


def _when(value: object) -> str:
    parse_cron(str(value))
    return str(value)


def _image(value: object) -> str:
    try:
        return str(parse_image(str(value)))
    except RegistryError as error:
        raise ValueError(f"expected images, such as nginx:1.25: {error.message}") from None


def _platform(value: object) -> str:
    return str(parse_platform(str(value)))


def _list_of(read: Callable[[object], str]) -> BeforeValidator:
    """Read a list of texts; a text alone is a list of one."""

    def listed(value: object) -> tuple[str, ...]:
        return tuple(map(read, value if isinstance(value, list | tuple) else [value]))

    return BeforeValidator(listed)


class Schedule(BaseModel):
    """Images to warm, and the times."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: Annotated[str, BeforeValidator(_when)] = Field(
        description="The times, in the five fields of cron, by the local clock."
    )
    images: Annotated[tuple[str, ...], _list_of(_image)] = Field(
        (), description="Images to store, such as nginx:1.25."
    )
    files: tuple[FilePath, ...] = Field(
        (), description="Files that name images, of the kinds that mirror warm reads."
    )
    platforms: Annotated[tuple[str, ...], _list_of(_platform)] = Field(
        (), description="Platforms to store; without any, the platforms that clients request."
    )
    leave: Pulls | None = Field(
        None, description="Pulls of an upstream's limit that are left for clients."
    )
    jitter: Seconds = Field(
        0, description="The longest random delay, so that many mirrors do not begin together."
    )

    @model_validator(mode="after")
    def _has_images(self) -> Schedule:
        if not self.images and not self.files:
            raise ValueError("expected images, or files that name images")
        return self

    def names(self) -> list[ImageName]:
        """Return the images that are named here."""
        return [parse_image(each) for each in self.images]
