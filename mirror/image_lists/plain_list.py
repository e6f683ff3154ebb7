"""Plain lists: an image a line, with comments, as k3s publishes its images."""

from __future__ import annotations

import re

from mirror.image_lists.found import ImageList

_COMMENT = re.compile(r"(?:^|\s)#.*")


def read_plain_list(text: str, found: ImageList) -> None:
    """Add the images of a plain list."""
    for number, line in enumerate(text.split("\n"), 1):
        if name := _COMMENT.sub("", line).strip():
            found.add(name, number)
