"""Images, indexes and artifacts: the documents a registry keeps, and the blobs they name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from .blobs import Blob, Layer, digest_of, noise, pack, random_layer

CREATED = "2026-01-01T00:00:00Z"
EMPTY = Blob.of(b"{}", "application/vnd.oci.empty.v1+json")

Flavour: TypeAlias = Literal["oci", "docker"]


@dataclass(frozen=True)
class MediaTypes:
    """The media types of one family of images."""

    manifest: str
    index: str
    config: str
    layer: str


OCI = MediaTypes(
    manifest="application/vnd.oci.image.manifest.v1+json",
    index="application/vnd.oci.image.index.v1+json",
    config="application/vnd.oci.image.config.v1+json",
    layer="application/vnd.oci.image.layer.v1.tar+gzip",
)
DOCKER = MediaTypes(
    manifest="application/vnd.docker.distribution.manifest.v2+json",
    index="application/vnd.docker.distribution.manifest.list.v2+json",
    config="application/vnd.docker.container.image.v1+json",
    layer="application/vnd.docker.image.rootfs.diff.tar.gzip",
)


@dataclass(frozen=True)
class Image:
    """One manifest and its content; an artifact is an image with a subject."""

    manifest: bytes
    media_type: str
    digest: str
    config: Blob
    layers: tuple[Blob, ...]
    diff_ids: tuple[str, ...] = ()
    architecture: str = "amd64"
    os: str = "linux"
    subject: str | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] | None = None

    @property
    def size(self) -> int:
        """The length of the manifest."""
        return len(self.manifest)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """The config and the layers."""
        return (self.config, *self.layers)

    def __repr__(self) -> str:
        return f"Image({self.digest[:19]}, {len(self.layers)} layers)"


@dataclass(frozen=True)
class Index:
    """One manifest of other manifests: an image for many platforms, or a list of referrers."""

    manifest: bytes
    media_type: str
    digest: str
    images: tuple[Image, ...]

    @property
    def size(self) -> int:
        """The length of the manifest."""
        return len(self.manifest)

    def __repr__(self) -> str:
        return f"Index({self.digest[:19]}, {len(self.images)} images)"


Document: TypeAlias = Image | Index


def make_image(
    seed: int | str,
    layer_sizes: Sequence[int] = (1024,),
    media: Flavour = "oci",
    architecture: str = "amd64",
    os: str = "linux",
    base: Image | None = None,
    folder: Path | None = None,
) -> Image:
    """Make an image with layers of about these sizes, on top of `base`'s.

    The layers are files under `folder`, if there is one, and in memory otherwise.
    """
    types = _types(media)
    layers = [
        random_layer(f"{seed}/{architecture}/{number}", size, types.layer, folder)
        for number, size in enumerate(layer_sizes)
    ]
    return _image(layers, types, architecture, os, {}, base)


def image_from_rootfs(
    tar: bytes,
    cmd: Sequence[str],
    media: Flavour = "oci",
    architecture: str = "amd64",
    env: Sequence[str] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
) -> Image:
    """Make an image that can run: one layer with this root file system."""
    types = _types(media)
    layer = pack([tar], types.layer)
    return _image([layer], types, architecture, "linux", {"Cmd": [*cmd], "Env": [*env]}, None)


def make_index(
    images: Sequence[Image],
    media: Flavour = "oci",
    annotations: Mapping[str, str] | None = None,
) -> Index:
    """Make the index of an image for many platforms."""
    types = _types(media)
    entries = [
        _descriptor(image) | {"platform": {"architecture": image.architecture, "os": image.os}}
        for image in images
    ]
    manifest = index_document(entries, types.index, annotations)
    return Index(manifest, types.index, digest_of(manifest), tuple(images))


def make_artifact(
    seed: int | str,
    subject: Document,
    artifact_type: str = "application/vnd.example.sbom.v1",
    annotations: Mapping[str, str] | None = None,
    size: int = 64,
) -> Image:
    """Make an artifact that refers to `subject`: a signature, an SBOM."""
    payload = Blob.of(b"".join(noise(f"artifact/{seed}", size)))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "artifactType": artifact_type,
        "config": _descriptor(EMPTY),
        "layers": [_descriptor(payload)],
        "subject": _descriptor(subject),
    }
    manifest = _json(document | ({"annotations": dict(annotations)} if annotations else {}))
    return Image(
        manifest,
        OCI.manifest,
        digest_of(manifest),
        EMPTY,
        (payload,),
        subject=subject.digest,
        artifact_type=artifact_type,
        annotations=annotations,
    )


def referrer_descriptor(artifact: Image) -> dict[str, Any]:
    """Describe an artifact the way a list of referrers does."""
    more = {"annotations": dict(artifact.annotations)} if artifact.annotations else {}
    return _descriptor(artifact) | {"artifactType": artifact.artifact_type} | more


def index_document(
    entries: Sequence[Mapping[str, Any]],
    media_type: str = OCI.index,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Write the JSON of an index."""
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": [*entries]}
    return _json(document | ({"annotations": dict(annotations)} if annotations else {}))


def make_referrers_tag(artifacts: Sequence[Image]) -> Index:
    """Make the index that clients push under `sha256-<hex>` without a referrers API."""
    manifest = index_document([referrer_descriptor(artifact) for artifact in artifacts])
    return Index(manifest, OCI.index, digest_of(manifest), tuple(artifacts))


def _image(
    layers: Sequence[Layer],
    types: MediaTypes,
    architecture: str,
    os: str,
    run: Mapping[str, Any],
    base: Image | None,
) -> Image:
    blobs = (base.layers if base else ()) + tuple(layer.blob for layer in layers)
    diff_ids = (base.diff_ids if base else ()) + tuple(layer.diff_id for layer in layers)
    config = Blob.of(
        _json(
            {
                "created": CREATED,
                "architecture": architecture,
                "os": os,
                "config": dict(run),
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
                "history": [{"created": CREATED, "created_by": "stand-in"} for _ in diff_ids],
            }
        ),
        types.config,
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": types.manifest,
            "config": _descriptor(config),
            "layers": [_descriptor(blob) for blob in blobs],
        }
    )
    return Image(
        manifest,
        types.manifest,
        digest_of(manifest),
        config,
        blobs,
        diff_ids,
        architecture,
        os,
    )


def _types(media: Flavour) -> MediaTypes:
    return OCI if media == "oci" else DOCKER


def _descriptor(content: Document | Blob) -> dict[str, Any]:
    return {
        "mediaType": content.media_type,
        "digest": content.digest,
        "size": content.size,
    }


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=3).encode()
