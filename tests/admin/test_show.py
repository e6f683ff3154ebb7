"""`show` tells the stored content of an image, and its documents' claims, however hostile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mirror.admin.messages import OrderError, ShownImage, ShowOrder
from tests.standin import Blob, Hub, Image, make_artifact, make_image, make_index
from tests.standin.blobs import digest_of
from tests.standin.images import OCI, Index, index_document
from tests.support.described import describe_image
from tests.support.mirror import Mirror, Run
from tests.support.orders import ordered

LAYERS = [Blob.of(bytes([n]) * 50_000, OCI.layer) for n in (1, 2)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of `run`."""
    return tmp_path / "data"


async def shown(folder: Path, target: str) -> ShownImage:
    """Return the record of an image."""
    [record] = [record async for record in ordered(folder, ShowOrder(target))]
    assert isinstance(record, ShownImage)
    return record


async def pulled(hub: Hub, mirror: Mirror, image: Image, name: str = "library/a") -> None:
    """Have an image pulled as the tag 1."""
    hub.add(image, name, "1")
    await mirror.pull(name, "1", image)


HISTORY = [
    {"created_by": "/bin/sh -c #(nop) ADD file:1 in / "},
    {"created_by": "CMD [bash]", "empty_layer": True},
    {"created_by": "RUN apt-get\tinstall\n  curl # buildkit", "comment": "buildkit.dockerfile.v0"},
]


@pytest.mark.parametrize("alone", [False, True], ids=["beside a daemon", "alone"])
async def test_layers_have_their_sizes_and_the_commands_that_made_them(
    hub: Hub, run: Run, folder: Path, alone: bool
) -> None:
    config = {
        "os": "linux",
        "architecture": "arm64",
        "variant": "v8",
        "created": "2026-01-02T03:04:05Z",
        "history": HISTORY,
    }
    image, other = describe_image(LAYERS, config), describe_image(LAYERS[:1], {})
    async with run() as mirror:
        await pulled(hub, mirror, image)
        await pulled(hub, mirror, other, "library/b")
        found = await shown(folder, "a:1")
    if alone:
        found = await shown(folder, "a:1")
    assert (found.reference, found.digest) == ("docker.io/library/a:1", image.digest)
    assert (found.repository, found.media_type) == ("docker.io/library/a", OCI.manifest)
    assert found.bytes > 100_000 > found.alone > 50_000
    assert [(tag.tag, tag.digest, tag.fresh) for tag in found.tags] == [("1", image.digest, True)]
    [platform] = found.platforms
    assert (platform.platform, platform.created) == ("linux/arm64/v8", "2026-01-02T03:04:05Z")
    assert (platform.bytes, platform.alone) == (found.bytes, found.alone)
    assert [(layer.size, layer.stored, layer.shared) for layer in platform.layers] == [
        (50_000, True, 1),
        (50_000, True, 0),
    ]
    assert [layer.command for layer in platform.layers] == [
        "/bin/sh -c #(nop) ADD file:1 in /",
        "RUN apt-get install curl # buildkit",
    ]


DEEP: object = []
for _ in range(70):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"\xff\xfe",
        {},
        {"history": 7},
        {"history": [7, None, "x"]},
        {"history": [{"created_by": 7}, {"created_by": ["x"]}], "created": 7, "os": {}},
        {"history": [{"created_by": "x"}] * 3},
        {"history": [{"empty_layer": True}] * 100_000},
        {"history": DEEP},
        {"os": "\ud800"},
    ],
)
async def test_a_config_that_says_nothing_usable_leaves_the_sizes(
    hub: Hub, mirror: Mirror, folder: Path, config: object
) -> None:
    await pulled(hub, mirror, describe_image(LAYERS, config))
    [platform] = (await shown(folder, "a:1")).platforms
    assert [(layer.size, layer.command) for layer in platform.layers] == [(50_000, None)] * 2


async def test_texts_of_an_image_are_short_and_cannot_steer_a_terminal(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    evil = "\x1b]0;owned\x07\u202e\r\n\x00\ud800" + "x" * 100_000
    config = {"os": evil, "created": evil, "history": [{"created_by": evil}] * 2}
    await pulled(hub, mirror, describe_image(LAYERS, config))
    [platform] = (await shown(folder, "a:1")).platforms
    texts = [platform.platform, platform.created, *(each.command for each in platform.layers)]
    for text in texts:
        assert text
        assert text.isprintable()
        assert len(text) <= 1000


async def test_an_index_shows_its_platforms_whether_they_are_stored_or_not(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    images = [make_image(n, [30_000], architecture=arch) for n, arch in enumerate(("amd64", "arm"))]
    index = make_index(images)
    for each in images:
        hub.add(each, "library/a")
    hub.add(index, "library/a", "1", "latest")
    for tag in ("1", "latest"):
        await mirror.manifest("library/a", tag)
    await mirror.manifest("library/a", images[0].digest)
    for blob in images[0].blobs:
        await mirror.blob("library/a", blob.digest)
    await mirror.settled()
    found = await shown(folder, "a:latest")
    assert [(each.platform, each.digest, each.stored) for each in found.platforms] == [
        ("linux/amd64", images[0].digest, True),
        ("linux/arm", images[1].digest, False),
    ]
    assert [len(each.layers) for each in found.platforms] == [1, 0]
    assert found.platforms[0].bytes > 30_000
    assert [tag.tag for tag in found.tags] == ["1", "latest"]
    inner = await shown(folder, f"a@{images[0].digest}")
    assert (inner.parents, inner.checked) == ((index.digest,), 0)
    assert [tag.tag for tag in inner.tags] == ["1", "latest"]
    assert (await shown(folder, images[0].digest)).reference == inner.reference


async def test_signatures_attestations_and_sboms_are_shown_as_attached(
    hub: Hub, mirror: Mirror, folder: Path
) -> None:
    image = make_image(1, [30_000])
    proof = make_image(2, [100], architecture="unknown", os="unknown")
    platform = {"architecture": "unknown", "os": "unknown"}
    notes = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image.digest,
    }
    entries = [
        {"mediaType": OCI.manifest, "digest": image.digest, "size": image.size},
        {
            "mediaType": OCI.manifest,
            "digest": proof.digest,
            "size": proof.size,
            "platform": platform,
            "annotations": notes,
        },
    ]
    manifest = index_document(entries)
    index = Index(manifest, OCI.index, digest_of(manifest), (image, proof))
    sbom = make_artifact(3, index, "application/spdx+json")
    strange = make_artifact(4, make_image(9, [10]), "application/spdx+json")
    signature = make_image(5, [100])
    hub.add(index, "library/a", "1")
    for each in (image, proof, sbom, strange):
        hub.add(each, "library/a")
    hub.add(signature, "library/a", index.digest.replace(":", "-") + ".sig")
    for reference in ("1", image.digest, proof.digest, sbom.digest, strange.digest):
        assert (await mirror.manifest("library/a", reference)).status == 200
    await mirror.manifest("library/a", index.digest.replace(":", "-") + ".sig")
    found = await shown(folder, "a:1")
    assert [each.digest for each in found.platforms] == [image.digest]
    assert {(each.digest, each.what) for each in found.attached} == {
        (proof.digest, "BuildKit attestation"),
        (signature.digest, "cosign signature"),
        (sbom.digest, "SBOM"),
    }


async def test_a_repository_is_shown_with_its_tags(hub: Hub, mirror: Mirror, folder: Path) -> None:
    first, second = make_image(1, [20_000]), make_image(2, [30_000])
    for tag, each in (("1", first), ("2", second)):
        hub.add(each, "library/a", tag)
        await mirror.pull("library/a", tag, each)
    third = make_image(3, [10])
    hub.add(third, "library/a")
    await mirror.manifest("library/a", third.digest)
    found = await shown(folder, "a")
    assert (found.reference, found.digest) == ("docker.io/library/a", "")
    assert [(tag.tag, tag.digest) for tag in found.tags] == [
        ("1", first.digest),
        ("2", second.digest),
    ]
    assert found.untagged == (third.digest,)
    assert found.bytes == found.alone > 50_000


async def test_the_older_manifest_of_a_tag_is_shown_until_the_new_one_is_stored(
    hub: Hub, run: Run, folder: Path
) -> None:
    first, second = make_image(1, [20_000]), make_image(2, [30_000])
    async with run(tag_ttl=0) as mirror:
        await pulled(hub, mirror, first)
        hub.add(second, "library/a", "1")
        assert (await mirror.manifest("library/a", "1", "HEAD")).status == 200
        assert (await shown(folder, "a:1")).digest == first.digest
        await mirror.pull("library/a", "1", second)
        assert (await shown(folder, "a:1")).digest == second.digest


async def test_a_wrong_file_is_not_believed(hub: Hub, mirror: Mirror, folder: Path) -> None:
    image = describe_image(LAYERS, {"history": HISTORY})
    await pulled(hub, mirror, image)
    path = folder / "blobs" / "sha256" / image.config.digest[7:9] / image.config.digest[7:]
    path.write_bytes(json.dumps({"os": "evil", "history": HISTORY}).encode())
    [platform] = (await shown(folder, "a:1")).platforms
    assert platform.platform == ""
    assert platform.layers[0].command is None


@pytest.mark.parametrize(
    "target", ["b", "b:1", "a:2", "\x1b", "sha256:" + "a" * 64, "a@sha256:" + "a" * 64]
)
async def test_an_image_that_is_not_stored_is_refused_in_one_line(
    hub: Hub, mirror: Mirror, folder: Path, target: str
) -> None:
    await pulled(hub, mirror, make_image(1, [1000]))
    with pytest.raises(OrderError) as refusal:
        await shown(folder, target)
    [line] = str(refusal.value).splitlines()
    assert line.isprintable()
    assert "nothing of" in line or "invalid" in line
