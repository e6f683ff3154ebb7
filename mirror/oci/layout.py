"""The OCI image layout (image-spec, image-layout.md): its index.json, and the names in it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mirror.oci import media, strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import DigestInvalid, RegistryError, shown
from mirror.oci.image_name import parse_image
from mirror.oci.manifest import MAX_SIZE, Descriptor

INDEX = "index.json"
MARKER = "oci-layout"
MARKED = b'{"imageLayoutVersion":"1.0.0"}'
MOST_IMAGES = 4096  # names in one layout

_TAG = "org.opencontainers.image.ref.name"
_NAME = "io.containerd.image.name"


class LayoutInvalid(Exception):
    """The layout cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Root:
    """A descriptor of index.json, with the full name of the image, "" if it has none."""

    name: str
    descriptor: Descriptor


def blob_path(digest: Digest) -> str:
    """Return the path of content in a layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def index_json(images: Iterable[tuple[str, Descriptor]]) -> bytes:
    """Write index.json: one descriptor for each full name, with its tag."""
    manifests = [
        {
            "mediaType": found.media_type,
            "digest": found.digest,
            "size": found.size,
            "annotations": _annotations(name),
        }
        for name, found in images
    ]
    document = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": manifests}
    return json.dumps(document, indent=2).encode()


def _annotations(name: str) -> dict[str, str]:
    return ({} if "@" in name else {_TAG: name.rpartition(":")[2]}) | {_NAME: name}


def read_index(body: bytes) -> list[Root]:
    """Parse index.json; raises LayoutInvalid.

    A name that stands for two manifests is refused. A descriptor without a full name has none:
    `ref.name` alone is a tag of any repository, unless it is a full name, as skopeo writes it.
    """
    if len(body) > MAX_SIZE:
        raise LayoutInvalid(f"{INDEX} has more than {MAX_SIZE} bytes")
    try:
        manifests = strict_json.read(body).get("manifests")
    except ValueError as error:
        raise LayoutInvalid(f"{INDEX} is not an unambiguous JSON object: {error}") from None
    if not isinstance(manifests, list) or not manifests:
        raise LayoutInvalid(f"{INDEX} names no manifests")
    if len(manifests) > MOST_IMAGES:
        raise LayoutInvalid(f"{INDEX} names more than {MOST_IMAGES} images")
    roots = [_root(each) for each in manifests]
    _refuse_twice(roots)
    return list(dict.fromkeys(roots))


def _root(value: object) -> Root:
    if not isinstance(value, dict):
        raise LayoutInvalid(f"{INDEX} has a descriptor that is no object")
    notes = value.get("annotations")
    return Root(_name(notes if isinstance(notes, dict) else {}), _descriptor(value))


def _descriptor(value: dict[str, Any]) -> Descriptor:
    digest, size, media_type = (value.get(key) for key in ("digest", "size", "mediaType"))
    try:
        parsed = Digest.parse(digest if isinstance(digest, str) else "")
    except DigestInvalid as error:
        raise LayoutInvalid(f"{INDEX}: {error.message}") from None
    if type(size) is not int or not 0 < size <= MAX_SIZE:
        wanted = f"expected 1 to {MAX_SIZE} bytes"
        raise LayoutInvalid(f"{INDEX}: {parsed} has size {shown(str(size))}: {wanted}")
    if not isinstance(media_type, str) or not media.names_manifest(media_type):
        raise LayoutInvalid(f"{INDEX}: {parsed} is of type {shown(str(media_type))}, no manifest")
    return Descriptor(parsed, media_type, size)


def _name(notes: dict[str, object]) -> str:
    """Return the full name of a descriptor, "" if it has none; raises LayoutInvalid."""
    full, short = notes.get(_NAME), notes.get(_TAG)
    if not isinstance(full, str) or not full:
        full = short if isinstance(short, str) and (":" in short or "/" in short) else ""
    try:
        return full and str(parse_image(full)) and full
    except RegistryError as error:
        raise LayoutInvalid(f"{INDEX}: {error.message}") from None


def _refuse_twice(roots: list[Root]) -> None:
    found: dict[str, Digest] = {}
    for root in roots:
        digest = root.descriptor.digest
        if root.name and found.setdefault(root.name, digest) != digest:
            raise LayoutInvalid(f"{INDEX} names {root.name} twice, with different digests")
