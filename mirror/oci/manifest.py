"""What a manifest points at, and the documents that must not be kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mirror.oci import documents, media
from mirror.oci.digest import Digest
from mirror.oci.errors import DigestInvalid, ManifestUnfit, shown

MAX_SIZE = 4 * 1024 * 1024  # bytes; distribution-spec, "Pushing manifests", and every client

_POINTERS = ("config", "layers", "manifests", "blobs")
# What says that a document is of another kind (as containerd has it).
_NOT_OF_IMAGES = ("manifests", "fsLayers")
_NOT_OF_INDEXES = ("config", "layers", "fsLayers")
# Keys that must be written just so, by their folded forms: Go, which most clients are of, finds
# them in any case.
_KEYS = {
    key.casefold(): key for key in (*_POINTERS, "fsLayers", "mediaType", "schemaVersion", "subject")
}
_DESCRIPTOR_KEYS = {key.casefold(): key for key in ("digest", "mediaType", "size", "urls", "data")}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What names content: its digest, its media type and its size in bytes."""

    digest: Digest
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A proven manifest: the exact bytes, their names, and the digests they point at."""

    descriptor: Descriptor
    body: bytes
    children: tuple[Digest, ...]


def read(body: bytes, digest: Digest, media_type: str) -> Manifest:
    """Read a manifest or index; raises ManifestUnfit for what must not be kept.

    Refused are documents whose meaning depends on the reader (CVE-2021-41190): with what belongs to
    the other kind, with a `mediaType` that differs from the Content-Type they came with, with
    a key twice, or in capitals.
    """
    if media_type not in media.KNOWN:
        raise ManifestUnfit(f"upstream sent a manifest of type {shown(media_type)}")
    document = _object(body)
    declared = document.get("mediaType", media_type)
    if declared != media_type:
        raise ManifestUnfit(
            f"the manifest calls itself {shown(str(declared))}, upstream calls it {media_type}"
        )
    for key in _NOT_OF_INDEXES if media_type in media.INDEXES else _NOT_OF_IMAGES:
        if key in document:
            raise ManifestUnfit(f"the manifest has {key}, and upstream calls it {media_type}")
    return Manifest(Descriptor(digest, media_type, len(body)), body, _children(document))


def platforms(index: Manifest) -> Iterator[Digest]:
    """Yield the manifests of an index that clients choose from, each by its platform.

    Others are for no platform at all: those that attest what an image is made of.
    """
    children = _object(index.body).get("manifests")
    for child in children if isinstance(children, list) else ():
        platform = child.get("platform") if isinstance(child, dict) else None
        if isinstance(child, dict) and not _is_unknown(platform):
            yield Digest(child["digest"])


def _is_unknown(platform: object) -> bool:
    return isinstance(platform, dict) and platform.get("os") == "unknown"


def guess_media_type(body: bytes) -> str | None:
    """Tell what a kept document is when nothing but its bytes is known; None if no manifest."""
    try:
        document = _object(body)
    except ManifestUnfit:
        return None
    declared = document.get("mediaType")
    if declared in media.KNOWN:
        return str(declared)
    if declared is not None or document.get("schemaVersion") != 2:
        return None
    if "manifests" in document:
        return media.OCI_INDEX
    return media.OCI_MANIFEST if "layers" in document and "config" in document else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = documents.read(body)
    except ValueError:
        raise ManifestUnfit(
            "upstream's manifest is not a JSON object that all would read alike"
        ) from None
    _check_case(document, _KEYS)
    return document


def _check_case(keys: Iterable[str], known: Mapping[str, str]) -> None:
    for key in keys:
        if known.get(key.casefold(), key) != key:
            raise ManifestUnfit(f"the manifest has {shown(key)}, which some would read as another")


def _children(document: dict[str, Any]) -> tuple[Digest, ...]:
    found: dict[Digest, None] = {}
    for key in _POINTERS:
        value = document.get(key)
        for descriptor in value if isinstance(value, list) else [value]:
            if isinstance(descriptor, dict):
                _check_case(descriptor, _DESCRIPTOR_KEYS)
                text = descriptor.get("digest")
                try:
                    found[Digest.parse(text if isinstance(text, str) else "")] = None
                except DigestInvalid:
                    raise ManifestUnfit(
                        f"the manifest's {key} has an invalid digest {shown(str(text))}"
                    ) from None
    return tuple(found)
