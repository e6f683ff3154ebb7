"""The vocabulary: names, digests, manifests and errors, as the specifications have them."""

from __future__ import annotations

import json

import pytest

from mirror.oci import manifest, media
from mirror.oci.digest import Digest
from mirror.oci.errors import (
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    RegistryError,
    TagInvalid,
    TooManyRequests,
    UpstreamMisbehaved,
)
from mirror.oci.names import Repository, Tag, parse_reference
from tests.standin import make_artifact, make_image, make_index

A = "sha256:" + "a" * 64
B = "sha512:" + "b" * 128


@pytest.mark.parametrize(
    "name", ["a", "library/nginx", "a.b/c_d/e__f/g-h/i---j", "0", "a" * 255, "blobs/tags"]
)
def test_a_good_name_is_taken(name: str) -> None:
    assert str(Repository.parse("docker.io", name)) == f"docker.io/{name}"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "a/",
        "/a",
        "a//b",
        ".a",
        "a.",
        "a..b",
        "a___b",
        "a_-b",
        "a b",
        "a\n",
        "ä",
        "a" * 256,
    ],
)
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        Repository.parse("docker.io", name)


def test_a_reference_is_a_digest_or_a_tag() -> None:
    assert isinstance(parse_reference(A), Digest)
    assert isinstance(parse_reference(B), Digest)
    for tag in ("latest", "1.2.3-rc_1", "_x", "a" * 128):
        assert isinstance(parse_reference(tag), Tag)
    for bad in ("", ".a", "-a", "a" * 129, "a b", "é"):
        with pytest.raises(TagInvalid):
            parse_reference(bad)
    for bad in (
        A.upper(),
        A[:-1],
        A + "a",
        "sha256:" + "g" * 64,
        "sha1:" + "a" * 40,
        A + "\n",
        ":",
    ):
        with pytest.raises(DigestInvalid):
            parse_reference(bad)


def test_a_digest_proves_its_content_only() -> None:
    for algorithm in ("sha256", "sha512"):
        digest = Digest.of(b"content", algorithm)
        assert digest.algorithm == algorithm
        assert digest.proves(b"content")
        assert not digest.proves(b"content ")
        assert Digest.parse(digest) == digest


def test_the_descriptors_of_a_manifest_are_read() -> None:
    image = make_image(1, [10, 20])
    found = manifest.read(image.manifest, Digest(image.digest), image.media_type)
    assert list(found.children) == [blob.digest for blob in image.blobs]
    index = make_index([image, make_image(2)])
    found = manifest.read(index.manifest, Digest(index.digest), index.media_type)
    assert found.children[0] == image.digest
    artifact = make_artifact(1, image)
    found = manifest.read(artifact.manifest, Digest(artifact.digest), artifact.media_type)
    assert image.digest not in found.children  # a subject is not content of its referrer


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        (b"not json", media.OCI_MANIFEST),
        (b"[" * 100_000, media.OCI_MANIFEST),
        (b"[]", media.OCI_MANIFEST),
        (json.dumps({"mediaType": media.OCI_INDEX}).encode(), media.OCI_MANIFEST),
        (json.dumps({"manifests": [], "layers": []}).encode(), media.OCI_INDEX),
        (json.dumps({"manifests": [], "config": {}}).encode(), media.OCI_INDEX),
        (json.dumps({"layers": [{"digest": "../../etc"}]}).encode(), media.OCI_MANIFEST),
        (json.dumps({"config": {"digest": 5}}).encode(), media.OCI_MANIFEST),
        (b'{"fsLayers": [], "layers": []}', media.SCHEMA1),
        (b'{"fsLayers": [{"blobSum": "../../etc"}]}', media.SCHEMA1_SIGNED),
        (b'{"blobs": [], "manifests": []}', media.OCI_ARTIFACT),
    ],
)
def test_a_document_of_two_meanings_is_not_a_manifest(document: bytes, media_type: str) -> None:
    with pytest.raises(UpstreamMisbehaved):
        manifest.read(document, Digest.of(document), media_type)


def test_an_error_is_a_document_of_the_specification() -> None:
    error = TooManyRequests("spent", retry_after=30)
    assert json.loads(error.body()) == {
        "errors": [{"code": "TOOMANYREQUESTS", "message": "spent", "detail": None}]
    }
    assert error.headers() == {"Retry-After": "30"}
    assert error.status == 429


def test_an_error_can_be_raised_by_many_without_growing() -> None:
    first = ManifestUnknown("gone")
    try:
        raise first
    except RegistryError as caught:
        again = caught.again()
    assert (type(again), again.message) == (ManifestUnknown, "gone")
    assert again.__traceback__ is None
