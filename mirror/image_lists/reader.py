"""The reader of image lists: recognises what kind of file a text is, and finds its images."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mirror.image_lists.compose import is_compose, read_compose
from mirror.image_lists.dockerfile import read_dockerfile
from mirror.image_lists.documents import read_document
from mirror.image_lists.found import ImageList, UnreadableList
from mirror.image_lists.plain_list import read_plain_list
from mirror.image_lists.skopeo_sync import is_skopeo_sync, read_skopeo_sync
from mirror.image_lists.yaml_nodes import BadDocument, Node, Table, documents, read
from mirror.util.units import human

MOST_BYTES = 16 * 1024 * 1024  # of a file; YAML of that size takes some five seconds
_INSTRUCTION = re.compile(r"(?:FROM|ARG)\s+\S", re.IGNORECASE)
_YAML = re.compile(r"""(?:---|%YAML\b|[\[{]|-\s|-$|[^\s#]+\s*:(?:\s|$)|["'][^"']*["']\s*:)""")


def read_images(data: bytes, environment: Mapping[str, str]) -> ImageList:
    """Find the images in a file's bytes; compose takes variables from the environment.

    Raises UnreadableList.
    """
    if len(data) > MOST_BYTES:
        raise UnreadableList(f"is larger than {human(MOST_BYTES)}")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise UnreadableList("is not text in UTF-8") from None
    found = ImageList()
    first = _first_line(text)
    if _INSTRUCTION.match(first):
        read_dockerfile(text, found)
    elif _YAML.match(first):
        _read_yaml(text, environment, found)
    else:
        read_plain_list(text, found)
    return found


def _first_line(text: str) -> str:
    """Return the first line that is neither empty nor a comment."""
    lines = (line.strip() for line in text.split("\n"))
    return next((line for line in lines if line and not line.startswith("#")), "")


def _read_yaml(text: str, environment: Mapping[str, str], found: ImageList) -> None:
    for document, line in documents(text):
        try:
            root = read(document, line)
        except BadDocument as error:
            found.skip(error.line, f"the document {error}")
            continue
        if root is not None:
            _read_document(root, environment, found)


def _read_document(root: Node, environment: Mapping[str, str], found: ImageList) -> None:
    if isinstance(root, Table) and is_compose(root):
        read_compose(root, environment, found)
    elif isinstance(root, Table) and is_skopeo_sync(root):
        read_skopeo_sync(root, found)
    else:
        read_document(root, found)
