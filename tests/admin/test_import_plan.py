"""The plan of an import: which content it asks for, and in which order it is stored."""

from __future__ import annotations

import json

from mirror.admin.operations.import_plan import ImagePlan, ImportPlan
from mirror.oci import manifest
from mirror.oci.digest import Digest
from mirror.oci.image_name import parse_image
from mirror.oci.manifest import Descriptor
from mirror.oci.media import OCI_INDEX
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
