"""Manifests: proof, type and references, and the rules for documents that must not be stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from mirror.oci import media, strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import DigestInvalid, ManifestUnfit, ManifestWrong, shown
from mirror.oci.signed import payload

MAX_SIZE = 4 * 1024 * 1024  # bytes; distribution-spec, "Pushing manifests", and every client
# Children recorded for a manifest; the largest honest index has some hundreds. A manifest with more
# is passed on and stored unchanged, and its children are treated as independent content.
MOST_CHILDREN = 4096

# The keys that reference content, each with the key of its digest; the last is of schema 1.
_POINTERS = {
    "config": "digest",
    "layers": "digest",
    "manifests": "digest",
    "blobs": "digest",
    "fsLayers": "blobSum",
}
# The kind of document that a key implies (the same rule as in containerd).
_KIND_OF_KEY = {"manifests": "index", "config": "image", "layers": "image", "fsLayers": "schema 1"}
_KIND_OF_TYPE = {
    **dict.fromkeys(media.INDEXES, "index"),
    **dict.fromkeys(media.MANIFESTS, "image"),
    **dict.fromkeys(media.SCHEMA1S, "schema 1"),
    **dict.fromkeys(media.ARTIFACTS, "artifact"),
}
# Keys that must be spelled exactly so, by their folded forms: Go, the language of most clients,
# matches keys in any case.
_KEYS = {key.casefold(): key for key in (*_POINTERS, "mediaType", "schemaVersion", "subject")}
_POINTER_KEYS = {
    key.casefold(): key for key in ("digest", "mediaType", "size", "urls", "data", "blobSum")
}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The identity of content: digest, media type, and size in bytes."""

    digest: Digest
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A proven manifest: the exact bytes, their descriptor, and the digests that they reference.

    `platforms` are the children of an index that clients choose from by platform; the other
    children are attestations, which are for no platform. Both are empty if there are more than
    MOST_CHILDREN. `in_part`: the digest covers only the signed part of the bytes.
    """

    descriptor: Descriptor
    body: bytes
    children: tuple[Digest, ...]
    platforms: tuple[Digest, ...] = ()
    in_part: bool = False


@dataclass(frozen=True, slots=True)
class Hint:
    """The headers of a HEAD for a manifest; "" and 0 stand for missing ones.

    `missing`: upstream answered 404, which its GET may contradict. `inferred`: the digest is the
    requested one; upstream sent none.
    """

    digest: Digest | None = None
    media_type: str = ""
    size: int = 0
    missing: bool = False
    inferred: bool = False

    @classmethod
    def of(cls, found: Descriptor) -> Self:
        """Return the hint that says as much as a descriptor."""
        return cls(found.digest, found.media_type, found.size)

    @property
    def descriptor(self) -> Descriptor | None:
        """The complete descriptor; None if a part of it is missing."""
        if self.digest is None or not self.media_type or not self.size:
            return None
        return Descriptor(self.digest, self.media_type, self.size)


def prove(body: bytes, named: Digest | None, content_type: str) -> Manifest:
    """Prove and parse the body of a manifest; `named` is its digest, if requested or announced.

    `content_type` is upstream's. Without a digest, the type or the document itself must identify it
    as a manifest. Raises ManifestWrong for anything else, and ManifestUnfit.
    """
    signed = payload(body)
    digest = named or Digest.of(signed or body)
    whole = digest.proves(body)
    if not whole and not (signed and digest.proves(signed)):
        raise ManifestWrong(f"upstream sent a manifest that does not match {digest}")
    if named is None and not is_one(body, content_type):
        raise ManifestWrong(
            f"upstream sent a document of type {shown(content_type)}, not a manifest"
        )
    return replace(read(body, digest, content_type), in_part=not whole)


def is_one(body: bytes, content_type: str) -> bool:
    """Whether a document is a manifest, by its type or by its keys, and not an error document."""
    try:
        document = strict_json.read(body)
    except ValueError:
        return False
    if "errors" in document:
        return False
    return media.names_manifest(content_type) or _own_type(document) is not None


def read(body: bytes, digest: Digest, content_type: str) -> Manifest:
    """Parse a proven manifest; raises ManifestUnfit for documents that must not be stored.

    Refused are ambiguous documents (CVE-2021-41190): with keys of another kind of manifest, with a
    `mediaType` that differs from the Content-Type, with duplicate keys, and with keys in upper
    case.
    """
    document = _object(body)
    media_type = _type(document, content_type)
    if media_type in media.KNOWN or media_type == media.JSON:
        _check_case(document, _KEYS)
        _check_kind(document, media_type)
    children = _children(document, strict=media_type in media.KNOWN)
    platforms = _platforms(document) if media_type in media.INDEXES else ()
    if len(children) > MOST_CHILDREN:
        children, platforms = (), ()
    return Manifest(Descriptor(digest, media_type, len(body)), body, children, platforms)


def _check_kind(document: dict[str, Any], media_type: str) -> None:
    """Refuse a document of two kinds: by its type and its keys, or by its keys alone."""
    kinds = {kind for key, kind in _KIND_OF_KEY.items() if key in document}
    if named := _KIND_OF_TYPE.get(media_type):
        kinds.add(named)
    if len(kinds) > 1:
        raise ManifestUnfit(f"the manifest is both {' and '.join(sorted(kinds))} ({media_type})")


def _type(document: dict[str, Any], content_type: str) -> str:
    """Return the type to serve a document with: upstream's, else its own, else plain JSON.

    Generic Content-Types (of a web page, of a byte stream) contradict nothing.
    """
    declared, own = document.get("mediaType", content_type), _own_type(document)
    if content_type in media.KNOWN:
        if declared != content_type:
            raise ManifestUnfit(
                f"the manifest has mediaType {shown(str(declared))}, "
                f"but Content-Type {content_type}"
            )
        return content_type
    if media.names_manifest(content_type) and own not in media.KNOWN:
        return content_type
    return own or media.JSON


def _own_type(document: dict[str, Any]) -> str | None:
    """Return the type that a document declares, by its `mediaType` or else by its keys."""
    declared = document.get("mediaType")
    if declared is not None:
        named = isinstance(declared, str) and media.names_manifest(declared)
        return declared if named else None
    if document.get("schemaVersion") == 1 and "fsLayers" in document:
        return media.SCHEMA1_SIGNED if "signatures" in document else media.SCHEMA1
    if document.get("schemaVersion") != 2:
        return None
    if "manifests" in document:
        return media.OCI_INDEX
    return media.OCI_MANIFEST if "layers" in document and "config" in document else None


def _platforms(document: dict[str, Any]) -> tuple[Digest, ...]:
    children = document.get("manifests")
    return tuple(
        Digest(child["digest"])
        for child in (children if isinstance(children, list) else ())
        if isinstance(child, dict) and not _is_unknown(child.get("platform"))
    )


def _is_unknown(platform: object) -> bool:
    return isinstance(platform, dict) and platform.get("os") == "unknown"


def _object(body: bytes) -> dict[str, Any]:
    try:
        return strict_json.read(body)
    except ValueError:
        raise ManifestUnfit("upstream's manifest is not an unambiguous JSON object") from None


def _check_case(keys: Iterable[str], known: Mapping[str, str]) -> None:
    for key in keys:
        if known.get(key.casefold(), key) != key:
            raise ManifestUnfit(f"the manifest has the key {shown(key)}, which is ambiguous")


def _children(document: dict[str, Any], *, strict: bool) -> tuple[Digest, ...]:
    """Return the digests that a document references, skipping invalid ones unless `strict`."""
    found: dict[Digest, None] = {}
    for key, name in _POINTERS.items():
        value = document.get(key)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                if strict:
                    _check_case(each, _POINTER_KEYS)
                if digest := _digest(key, each.get(name), strict=strict):
                    found[digest] = None
    return tuple(found)


def _digest(key: str, text: object, *, strict: bool) -> Digest | None:
    try:
        return Digest.parse(text if isinstance(text, str) else "")
    except DigestInvalid:
        if not strict:
            return None
        raise ManifestUnfit(
            f"the manifest's {key} has an invalid digest {shown(str(text))}"
        ) from None
