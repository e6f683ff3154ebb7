"""The plan of an import: which content it asks for, and in which order it is stored."""

from __future__ import annotations

import json

import pytest

from mirror.admin.operations.import_plan import ImagePlan, ImportPlan
from mirror.admin.operations.warm_documents import read_blobs
from mirror.oci import manifest
from mirror.oci.digest import Digest
from mirror.oci.image_name import parse_image
from mirror.oci.manifest import Descriptor
from mirror.oci.media import OCI_INDEX, OCI_MANIFEST
from mirror.oci.pointers import pointers


def index_of(*children: bytes) -> bytes:
    """Return an index of indexes."""
    manifests = [
        {"mediaType": OCI_INDEX, "digest": Digest.of(child), "size": len(child)}
        for child in children
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()


def planned(root: bytes, *others: bytes) -> tuple[ImportPlan, ImagePlan]:
    """Return the plan of an image that came with all its indexes."""
    plan = ImportPlan()
    plan.add(
        parse_image("docker.io/library/app:1", ["docker.io"]),
        Descriptor(Digest.of(root), OCI_INDEX, len(root)),
    )
    for body in (root, *others):
        plan.take(manifest.prove(body, Digest.of(body), OCI_INDEX), pointers(body))
    [image] = plan.images
    return plan, image


def test_a_shared_child_comes_before_all_of_its_parents() -> None:
    shared = index_of()
    middle = index_of(shared)
    for root in (index_of(middle, shared), index_of(shared, middle)):
        plan, image = planned(root, middle, shared)
        order = [each.body for each in plan.manifests_of(image)]
        assert order == [shared, middle, root]


@pytest.mark.parametrize(
    ("layer_type", "is_asked_for"),
    [
        ("application/vnd.oci.image.layer.v1.tar+gzip", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", False),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", False),
    ],
)
def test_a_layer_with_addresses_is_imported_unless_it_is_foreign(
    layer_type: str, is_asked_for: bool
) -> None:
    digest = Digest.of(b"layer")
    layer = {"mediaType": layer_type, "digest": digest, "size": 5, "urls": ["https://x.example/y"]}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [layer]}
    body = json.dumps(document).encode()
    plan = ImportPlan()
    plan.take(manifest.prove(body, Digest.of(body), OCI_MANIFEST), pointers(body))
    assert (digest in plan.blobs) is is_asked_for
    assert bool(read_blobs(body)) is is_asked_for
