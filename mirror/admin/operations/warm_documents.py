"""Manifests as `warm` reads them: the platforms of an index, and the blobs of an image; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mirror.oci import media, strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import DigestInvalid
from mirror.oci.platform import Platform, best, read_platform
from mirror.oci.pointers import is_foreign

MOST_BLOBS = 4096  # of one image; an engine takes 127 layers for a platform
_LARGEST = 2**50  # bytes
_MOST_PLAIN = 16  # entries without a platform
_MOST_ALIKE = {"windows": 4}  # entries of one platform that differ in `os.version`, by system
_ATTESTS = "vnd.docker.reference.type"  # the annotation of BuildKit's attestations


@dataclass(frozen=True, slots=True)
class Child:
    """An entry of an index that clients may request; its platform, if it names one."""

    digest: Digest
    platform: Platform | None


@dataclass(frozen=True, slots=True)
class WantedBlob:
    """A config or a layer; its size in bytes, 0 where it is not known."""

    digest: Digest
    size: int


def read_children(body: bytes) -> list[Child]:
    """Return the entries of an index; attestations are for no platform, and left out."""
    found: dict[Digest, Child] = {}
    for entry in _entries(_read(body), "manifests"):
        digest, platform = _digest(entry.get("digest")), entry.get("platform")
        notes = entry.get("annotations")
        attests = isinstance(notes, dict) and _ATTESTS in notes
        unknown = isinstance(platform, dict) and platform.get("os") == "unknown"
        if digest is not None and not attests and not unknown:
            found.setdefault(digest, Child(digest, read_platform(platform)))
    return list(found.values())


def choose_children(
    children: Iterable[Child], wanted: Iterable[Platform]
) -> tuple[list[Child], list[Platform]]:
    """Choose the entries for platforms; also returns the platforms without one.

    Engines take the first entry of their platform, and on Windows the first of their version. An
    index that names no platforms is taken whole, if it is small.
    """
    children = list(children)
    offered = {child.platform for child in children if child.platform is not None}
    if not offered:
        return children[:_MOST_PLAIN], []
    taken: set[Platform] = set()
    missing: list[Platform] = []
    for platform in wanted:
        if (found := best(platform, offered)) is None:
            missing.append(platform)
        else:
            taken.add(found)
    return list(_first(children, taken)), missing


def _first(children: Iterable[Child], platforms: set[Platform]) -> Iterator[Child]:
    """Yield the entries of platforms that an engine may take."""
    taken = Counter[Platform]()
    for child in children:
        platform = child.platform
        if platform in platforms and taken[platform] < _MOST_ALIKE.get(platform.os, 1):
            taken[platform] += 1
            yield child


def read_blobs(body: bytes) -> list[WantedBlob]:
    """Return the blobs of a manifest; layers that clients take from elsewhere are left out.

    Of more than `MOST_BLOBS`, it returns one more.
    """
    document = _read(body)
    found: dict[Digest, WantedBlob] = {}
    for key in ("config", "layers", "blobs", "fsLayers"):
        for entry in _entries(document, key):
            digest = _digest(entry.get("digest", entry.get("blobSum")))
            if digest is not None and not is_foreign(entry) and len(found) <= MOST_BLOBS:
                found.setdefault(digest, WantedBlob(digest, _size(entry.get("size"))))
    return list(found.values())


def read_config(body: bytes) -> Digest | None:
    """Return the config of a manifest; None if it names none."""
    for entry in _entries(_read(body), "config"):
        return _digest(entry.get("digest"))
    return None


def is_index(media_type: str) -> bool:
    """Whether a type is that of an index."""
    return media_type in media.INDEXES


def _read(body: bytes) -> dict[str, Any]:
    try:
        return strict_json.read(body)
    except ValueError:  # a manifest of an unknown type
        return {}


def _entries(document: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    value = document.get(key)
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, dict):
            yield entry


def _size(value: object) -> int:
    return value if type(value) is int and 0 <= value <= _LARGEST else 0


def _digest(value: object) -> Digest | None:
    try:
        return Digest.parse(value) if isinstance(value, str) else None
    except DigestInvalid:
        return None
