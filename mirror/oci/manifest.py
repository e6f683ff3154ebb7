"""What a manifest points at, and the documents that must not be kept."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.errors import DigestInvalid, ManifestUnfit, shown

MAX_SIZE = 4 * 1024 * 1024  # bytes; distribution-spec, "Pushing manifests", and every client


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

    Refused are documents whose meaning depends on the reader (CVE-2021-41190): both kinds at
    once, or a `mediaType` that differs from the Content-Type they came with.
    """
    if media_type not in media.KNOWN:
        raise ManifestUnfit(f"upstream sent a manifest of type {shown(media_type)}")
    document = _object(body)
    declared = document.get("mediaType", media_type)
    if declared != media_type:
        raise ManifestUnfit(
            f"the manifest calls itself {shown(str(declared))}, upstream calls it {media_type}"
        )
    if "manifests" in document and ("layers" in document or "config" in document):
        raise ManifestUnfit("the manifest is an image and an index at once")
    return Manifest(Descriptor(digest, media_type, len(body)), body, _children(document))


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


def _object(body: bytes) -> dict[str, object]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise ManifestUnfit("upstream's manifest is not JSON") from None
    if not isinstance(document, dict):
        raise ManifestUnfit("upstream's manifest is not a JSON object")
    return document


def _children(document: dict[str, object]) -> tuple[Digest, ...]:
    found: dict[Digest, None] = {}
    for key in ("config", "layers", "manifests", "blobs"):
        value = document.get(key)
        for descriptor in value if isinstance(value, list) else [value]:
            if isinstance(descriptor, dict):
                text = descriptor.get("digest")
                try:
                    found[Digest.parse(text if isinstance(text, str) else "")] = None
                except DigestInvalid:
                    raise ManifestUnfit(
                        f"the manifest's {key} has an invalid digest {shown(str(text))}"
                    ) from None
    return tuple(found)
