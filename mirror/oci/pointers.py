"""Pointers: the references in a manifest, with the sizes and platforms that it states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mirror.oci import strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import DigestInvalid
from mirror.oci.platform import read_platform

_ABOUT = "vnd.docker.reference.digest"  # BuildKit's annotation of an attestation


@dataclass(frozen=True, slots=True)
class Pointer:
    """A reference in a manifest; `size` in bytes, -1 if the document names none.

    `platform` is as `linux/arm64/v8`, "" without one. `about` is the manifest that an attestation
    is about. `elsewhere`: clients get the content from other hosts, so it need not be stored.
    """

    digest: Digest
    media_type: str
    size: int
    platform: str = ""
    about: str = ""
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Pointers:
    """The references of a manifest: to other manifests, and to blobs."""

    manifests: tuple[Pointer, ...]
    blobs: tuple[Pointer, ...]


def pointers(body: bytes) -> Pointers:
    """Return the references of a manifest that was proven and stored; none if it has no JSON."""
    try:
        document = strict_json.read(body)
    except ValueError:
        return Pointers((), ())
    blobs = [document.get("config"), *_list(document, "layers"), *_list(document, "blobs")]
    old = [{"digest": each.get("blobSum")} for each in _list(document, "fsLayers")]
    return Pointers(tuple(_found(_list(document, "manifests"))), _distinct(_found([*blobs, *old])))


def _list(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _found(values: list[Any]) -> Iterator[Pointer]:
    for value in values:
        if isinstance(value, dict):
            try:
                yield _pointer(value)
            except DigestInvalid:
                continue


def _pointer(value: dict[str, Any]) -> Pointer:
    size, media_type = value.get("size"), value.get("mediaType")
    notes = value.get("annotations")
    about = notes.get(_ABOUT) if isinstance(notes, dict) else None
    return Pointer(
        Digest.parse(str(value.get("digest"))),
        media_type if isinstance(media_type, str) else "",
        size if type(size) is int and size >= 0 else -1,
        str(read_platform(value.get("platform")) or ""),
        about if isinstance(about, str) else "",
        is_foreign(value),
    )


def is_foreign(entry: dict[str, Any]) -> bool:
    """Whether a registry need not have a layer: clients take it from the addresses it names.

    Addresses alone do not say so: clients request a layer of an ordinary type from the registry.
    """
    kind = str(entry.get("mediaType"))
    return bool(entry.get("urls")) and ("foreign" in kind or "nondistributable" in kind)


def _distinct(found: Iterator[Pointer]) -> tuple[Pointer, ...]:
    return tuple({each.digest: each for each in found}.values())
