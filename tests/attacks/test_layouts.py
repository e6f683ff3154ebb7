"""Layouts of the largest kind: neither an import nor an export of one holds the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from mirror.admin import client
from mirror.admin.messages import (
    Absent,
    Content,
    Exported,
    ExportOrder,
    Imported,
    ImportOrder,
    OfferedImage,
    OrderError,
    Piece,
    Record,
    Wanted,
    Work,
)
from mirror.oci.digest import Digest
from mirror.oci.media import OCI_INDEX, OCI_MANIFEST
from mirror.settings import load
from tests.attacks.steps import MOST, Longest, steps
from tests.support.mirror import Mirror

NAMES = 4096
LAYERS = 4000
CONFIG = b"{}"


def manifest_of(layers: int) -> bytes:
    """Return a manifest with a config, and layers that no layout has."""
    config = {"mediaType": "application/x", "digest": Digest.of(CONFIG), "size": len(CONFIG)}
    absent = [
        {"mediaType": "application/x", "digest": f"sha256:{number:064x}", "size": 1}
        for number in range(layers)
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": absent}
    return json.dumps(document).encode()


def index_of(children: list[bytes]) -> bytes:
    """Return an index of manifests."""
    manifests = [
        {"mediaType": OCI_MANIFEST, "digest": Digest.of(child), "size": len(child)}
        for child in children
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()


async def carried_out(
    mirror: Mirror, order: Work, content: Mapping[Digest, bytes]
) -> tuple[Record, Longest]:
    """Have an order carried out from a thread; returns its result, and the longest step."""

    def supply(wanted: Wanted) -> Iterator[Record]:
        for digest in wanted.digests:
            if (data := content.get(Digest(digest))) is None:
                yield Absent(digest)
            else:
                yield Content(digest, len(data))
                yield Piece(len(data), data)

    def run() -> Record:
        settings = load({"data_dir": mirror.folder.path})
        with closing(client.run(settings, order, supply)) as records:
            return list(records)[-1]

    with steps() as longest:
        result = await asyncio.to_thread(run)
    return result, longest


def named(root: bytes, media_type: str) -> ImportOrder:
    """Return the order to import one manifest under as many names as an order may have."""
    images = (
        OfferedImage(f"docker.io/library/many:{number}", Digest.of(root), media_type, len(root))
        for number in range(NAMES)
    )
    return ImportOrder("layout", tuple(images))


def spread(root: bytes) -> ImportOrder:
    """Return the order to import one manifest into as many repositories as an order may name."""
    images = (
        OfferedImage(f"docker.io/many/{number}:1", Digest.of(root), OCI_MANIFEST, len(root))
        for number in range(NAMES)
    )
    return ImportOrder("layout", tuple(images))


async def test_an_image_is_imported_into_many_repositories_beside_the_loop(mirror: Mirror) -> None:
    root = manifest_of(0)
    content = {Digest.of(each): each for each in (root, CONFIG)}
    result, longest = await carried_out(mirror, spread(root), content)
    assert isinstance(result, Imported)
    assert len(result.images) == NAMES
    assert not any(image.reason for image in result.images)
    assert longest.seconds < MOST, longest.what


async def test_many_layers_in_many_repositories_are_refused_before_a_write(mirror: Mirror) -> None:
    root = manifest_of(100)
    with pytest.raises(OrderError, match="import fewer images at a time"):
        await carried_out(mirror, spread(root), {Digest.of(each): each for each in (root, CONFIG)})
    assert not [each for each in (mirror.folder.path / "blobs").rglob("*") if each.is_file()]


async def test_an_image_of_many_names_and_layers_is_imported_beside_the_loop(
    mirror: Mirror, tmp_path: Path
) -> None:
    root = manifest_of(LAYERS)
    content = {Digest.of(each): each for each in (root, CONFIG)}
    result, longest = await carried_out(mirror, named(root, OCI_MANIFEST), content)
    assert isinstance(result, Imported)
    assert {image.absent for image in result.images} == {LAYERS}
    assert all(image.reason for image in result.images)
    assert max(len(image.lacking) for image in result.images) < 100
    assert longest.seconds < MOST, longest.what


async def test_an_index_of_many_children_is_moved_both_ways_beside_the_loop(
    mirror: Mirror, tmp_path: Path
) -> None:
    there = manifest_of(0)
    root = index_of([there, *(manifest_of(1) + b" " * number for number in range(1, 2000))])
    content = {Digest.of(each): each for each in (root, there, CONFIG)}
    result, longest = await carried_out(mirror, named(root, OCI_INDEX), content)
    assert isinstance(result, Imported)
    assert not any(image.reason for image in result.images)
    assert longest.seconds < MOST, longest.what

    names = tuple(f"many:{number}" for number in range(NAMES))
    result, longest = await carried_out(mirror, ExportOrder(names), {})
    assert isinstance(result, Exported)
    assert not any(image.reason for image in result.images)
    assert longest.seconds < MOST, longest.what
