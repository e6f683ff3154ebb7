"""The content of the stand-in upstream, the same in each example."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.differential.scene import ImageForm, Manner
from tests.standin.blobs import digest_of, noise
from tests.standin.images import DOCKER, OCI

APP, OTHER = "team/app", "team/other"  # repositories; the second shares all blobs of the first
TAG = "latest"
TAGS = ("1.0", "1.1", "2.0", "edge", TAG)
SIZES = (40, 20_000, 200_000)  # bytes of layers
LARGE = 3_000_000  # bytes of the layer that a client leaves midway
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
ORAS = "application/vnd.cncf.oras.artifact.manifest.v1+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
_SIGNATURE = "application/vnd.example.signature"
SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"


@dataclass(frozen=True)
class Document:
    """A manifest."""

    body: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """The digest of the body."""
        return digest_of(self.body)

    def descriptor(self) -> dict[str, Any]:
        """Return the manifest's descriptor, as an index has it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.body)}


@dataclass(frozen=True)
class Content:
    """The content of each repository: manifests and blobs by digest, tags by name.

    `top` is the manifest of TAG, `moved` its later manifest; `order` are the digests of `top`'s
    blobs, the config first.
    """

    top: Document
    moved: Document
    manifests: dict[str, Document] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    referrers: Document | None = None

    def holds(self, digest: str, body: bytes) -> bool:
        """Tell whether a body has this digest."""
        return digest_of(body) == digest


@cache
def content(form: ImageForm, manner: Manner) -> Content:
    """Make an upstream's content, with a large layer for a client that leaves midway."""
    layers = [_bytes(f"layer {size}", size) for size in SIZES]
    if manner == "leaves":
        layers.append(_bytes("large", LARGE))
    config = b"" if form == "empty config" else _json({"architecture": "amd64", "os": "linux"})
    image = _image(form, config, layers)
    documents = [image]
    if form in ("index", "nested"):
        documents.append(_index([documents[-1], _image("image", b"{}", layers[:1])]))
    if form == "nested":
        documents.append(_index([documents[-1]]))
    top, other = documents[-1], b'{"architecture": "amd64", "os": "linux", "created": null}'
    moved = _image("image", other, layers[:2])
    artifact = _artifact(top)
    answer = _list([artifact])
    everything = [*documents, moved, artifact, answer, _image("image", b"{}", layers[:1])]
    tags = dict.fromkeys(TAGS, top.digest) | {top.digest.replace(":", "-"): answer.digest}
    return Content(
        top,
        moved,
        {each.digest: each for each in everything},
        {digest_of(each): each for each in (config, other, b"{}", *layers)},
        tags,
        tuple(digest_of(each) for each in (config, *layers)),
        answer,
    )


def _image(form: ImageForm, config: bytes, layers: Sequence[bytes]) -> Document:
    if form in ("schema1", "signed"):
        return _schema1(layers, signed=form == "signed")
    if form in ("artifact", "oras"):
        media_type = ARTIFACT if form == "artifact" else ORAS
        blobs = [_blob(each, OCI.layer) for each in (config, *layers)]
        kind = {"mediaType": media_type, "artifactType": "application/vnd.example.thing"}
        return Document(_json(kind | {"blobs": blobs}), media_type)
    types = DOCKER if form == "docker" else OCI
    if form == "twice":
        layers = [*layers, layers[0]]
    typed = {} if form == "typeless" else {"mediaType": types.manifest}
    rest = {
        "config": _blob(config, types.config),
        "layers": [_blob(each, types.layer) for each in layers],
    }
    return Document(_json({"schemaVersion": 2} | typed | rest), types.manifest)


def _schema1(layers: Sequence[bytes], *, signed: bool) -> Document:
    document = {
        "schemaVersion": 1,
        "name": APP,
        "tag": TAG,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": digest_of(each)} for each in layers],
        "history": [{"v1Compatibility": "{}"} for _ in layers],
    }
    signature = {"signatures": [{"header": {}, "signature": "x", "protected": "y"}]}
    return Document(_json(document | (signature if signed else {})), SIGNED if signed else SCHEMA1)


def _index(images: Sequence[Document]) -> Document:
    names = ("amd64", "arm64")
    entries = [
        each.descriptor() | {"platform": {"os": "linux", "architecture": name}}
        for each, name in zip(images, names, strict=False)
    ]
    return Document(
        _json({"schemaVersion": 2, "mediaType": OCI.index, "manifests": entries}), OCI.index
    )


def _list(artifacts: Sequence[Document]) -> Document:
    """List a manifest's referrers: each descriptor has its type, and no platform."""
    entries = [each.descriptor() | {"artifactType": _SIGNATURE} for each in artifacts]
    document = {"schemaVersion": 2, "mediaType": OCI.index, "manifests": entries}
    return Document(_json(document), OCI.index)


def _artifact(subject: Document) -> Document:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "artifactType": _SIGNATURE,
        "config": _blob(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [_blob(_bytes(f"layer {SIZES[0]}", SIZES[0]), "application/octet-stream")],
        "subject": subject.descriptor(),
    }
    return Document(_json(document), OCI.manifest)


def _blob(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _bytes(seed: str, size: int) -> bytes:
    return b"".join(noise(seed, size))


def _json(document: object) -> bytes:
    return json.dumps(document).encode()
