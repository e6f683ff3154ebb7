"""Files with image lists, read within a bound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from mirror.image_lists.env_file import WithEnvFile
from mirror.image_lists.found import ImageList, UnreadableList
from mirror.image_lists.reader import MOST_BYTES, read_images
from mirror.util.permissions import explain_unreadable


def read_file(file: Path, environment: Mapping[str, str]) -> ImageList:
    """Find the images that a file names; raises UnreadableList.

    A compose file takes variables from the `.env` beside it, too.
    """
    try:
        with file.open("rb") as stream:
            return read_stream(stream, WithEnvFile(environment, file.parent))
    except OSError as error:
        raise UnreadableList(f"cannot be read: {explain_unreadable(error)}") from None


def read_stream(stream: BinaryIO, environment: Mapping[str, str]) -> ImageList:
    """Find the images that a stream names; raises UnreadableList, OSError."""
    return read_images(stream.read(MOST_BYTES + 1), environment)
