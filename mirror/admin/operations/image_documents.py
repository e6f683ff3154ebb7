"""Image documents: the claims of indexes, manifests and configs about an image; pure.

All of it is hostile: of the wrong type, contradictory, enormous. Anything unusable is left out, and
texts are plain and short.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mirror.oci import strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import DigestInvalid
from mirror.util.plain_text import plain

MOST_LAYERS = 512  # an engine takes 127
_COMMAND = 1000  # characters
_WORD = 128
_LARGEST = 2**53  # bytes; a larger size cannot be read by every client
_REFERENCE_TYPE = "vnd.docker.reference.type"  # BuildKit's annotations of attestations
_REFERENCE_DIGEST = "vnd.docker.reference.digest"


@dataclass(frozen=True, slots=True)
class Part:
    """A descriptor: a layer, or a manifest of an index with its platform.

    `about` is the manifest that an attestation of BuildKit's is about.
    """

    digest: Digest
    size: int
    platform: str
    kind: str
    about: str


@dataclass(frozen=True, slots=True)
class ManifestDocument:
    """A manifest or an index. `kind` is the type of an artifact, `subject` the digest behind it."""

    manifests: tuple[Part, ...] = ()
    layers: tuple[Part, ...] = ()
    config: Digest | None = None
    kind: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """A config. `commands` made the layers, and are in their order."""

    platform: str = ""
    created: str | None = None
    commands: tuple[str | None, ...] = ()


def read_manifest(body: bytes, most: int) -> ManifestDocument:
    """Read a manifest, or an index with `most` manifests."""
    document = _read(body)
    layers = document.get("layers", document.get("blobs", document.get("fsLayers")))
    config = _members(document.get("config"))
    kind = _text(document.get("artifactType")) or _text(config.get("mediaType"))
    return ManifestDocument(
        manifests=tuple(islice(_parts(document.get("manifests")), most)),
        layers=tuple(islice(_parts(layers), MOST_LAYERS)),
        config=_digest(config.get("digest")),
        kind=kind,
        subject=_text(_members(document.get("subject")).get("digest"), 200),
    )


def read_config(body: bytes, layers: int) -> ConfigDocument:
    """Read the config of an image with this number of layers.

    If its history has another number of layers, no command belongs to a certain layer.
    """
    document = _read(body)
    steps = [_members(step) for step in islice(_items(document.get("history")), 4 * MOST_LAYERS)]
    made = [_command(step) for step in steps if step.get("empty_layer") is not True]
    return ConfigDocument(
        platform=_platform(document),
        created=_text(document.get("created"), 40) or None,
        commands=tuple(made) if len(made) == layers else (None,) * layers,
    )


def _read(body: bytes) -> dict[str, Any]:
    try:
        return strict_json.read(body)
    except ValueError:
        return {}


def _parts(value: object) -> Iterator[Part]:
    for item in _items(value):
        each = _members(item)
        digest = _digest(each.get("digest", each.get("blobSum")))
        if digest is not None:
            notes = _members(each.get("annotations"))
            attests = _text(notes.get(_REFERENCE_TYPE)) == "attestation-manifest"
            yield Part(
                digest=digest,
                size=_size(each.get("size")),
                platform=_platform(_members(each.get("platform"))),
                kind=_text(each.get("artifactType")) or _text(each.get("mediaType")),
                about=_text(notes.get(_REFERENCE_DIGEST), 200) if attests else "",
            )


def _command(step: dict[str, Any]) -> str | None:
    return _text(step.get("created_by"), _COMMAND) or None


def _platform(value: dict[str, Any]) -> str:
    words = (_text(value.get(key), 40) for key in ("os", "architecture", "variant"))
    return "/".join(word for word in words if word)


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _members(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object, most: int = _WORD) -> str:
    return plain(value, most) if isinstance(value, str) else ""


def _size(value: object) -> int:
    return value if type(value) is int and 0 <= value <= _LARGEST else 0


def _digest(value: object) -> Digest | None:
    try:
        return Digest.parse(value) if isinstance(value, str) else None
    except DigestInvalid:
        return None
