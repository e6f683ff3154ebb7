"""Manifests of any type and under any header: the digest proves whether a manifest is right."""

from __future__ import annotations

import base64
import gzip
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.oci.signed import payload
from tests.standin import Fault, Hub, Image, Terms, make_image
from tests.standin.blobs import Blob
from tests.standin.images import Index
from tests.support.command import Ended, launched
from tests.support.mirror import Mirror, Run

REPOSITORY = "library/nginx"
FUTURE = "application/vnd.example.image.manifest.v9+json"
PAGE = b"<!DOCTYPE html><html></html>"


def push(hub: Hub, body: bytes, media_type: str, tag: str = "odd", digest: str = "") -> str:
    """Let upstream serve these bytes as a manifest under a tag; returns the digest."""
    document = Index(body, media_type, digest or str(Digest.of(body)), ())
    hub.add(document, REPOSITORY, tag)
    return document.digest


def descriptor(image: Image) -> dict[str, object]:
    """Describe the first layer of an image."""
    layer = image.layers[0]
    return {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}


def documents(image: Image) -> dict[str, bytes]:
    """Make a document of each type beside the four of images, each with one layer."""
    layer = image.layers[0].digest
    artifact = {"artifactType": "a/b", "blobs": [descriptor(image)], "subject": descriptor(image)}
    return {
        media.SCHEMA1: json.dumps(
            {"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [{"blobSum": layer}]}
        ).encode(),
        media.OCI_ARTIFACT: json.dumps({"mediaType": media.OCI_ARTIFACT, **artifact}).encode(),
        media.ORAS_ARTIFACT: json.dumps({"mediaType": media.ORAS_ARTIFACT, **artifact}).encode(),
        FUTURE: json.dumps({"mediaType": FUTURE, "layers": [descriptor(image)]}).encode(),
    }


def sign(document: dict[str, object]) -> tuple[bytes, bytes]:
    """Sign as schema 1 does; returns the body and the bytes of its digest."""
    signed = json.dumps(document, indent=3).encode()
    end = signed.rindex(b"\n}")
    header = {"formatLength": end, "formatTail": coded(signed[end:]), "time": "2015"}
    signature = {
        "header": {"alg": "ES256"},
        "signature": coded(b"any"),
        "protected": coded(json.dumps(header).encode()),
    }
    return signed[:end] + b',\n   "signatures": ' + json.dumps([signature]).encode() + signed[
        end:
    ], signed


def coded(data: bytes) -> str:
    """Encode as JSON signatures do."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


TYPES = [media.SCHEMA1, media.OCI_ARTIFACT, media.ORAS_ARTIFACT, FUTURE]


@pytest.mark.parametrize("media_type", TYPES)
async def test_a_manifest_of_any_type_is_passed_on_and_kept(
    hub: Hub, run: Run, image: Image, media_type: str
) -> None:
    body = documents(image)[media_type]
    digest = push(hub, body, media_type)
    async with run() as mirror:
        head = await mirror.manifest(REPOSITORY, "odd", "HEAD")
        assert head.headers["Docker-Content-Digest"] == digest
        for reference in (digest, "odd"):
            got = await mirror.manifest(REPOSITORY, reference)
            assert (got.body, got.headers["Content-Type"]) == (body, media_type)
        assert mirror.stored.children(digest) == [image.layers[0].digest]
    await hub.down()
    async with run() as mirror:
        for reference in (digest, "odd"):
            got = await mirror.manifest(REPOSITORY, reference)
            assert (got.body, got.headers["Content-Type"]) == (body, media_type)
    await hub.up()
    assert hub.pulls == 1


@pytest.mark.parametrize("media_type", TYPES)
@pytest.mark.parametrize("told", ["text/html", "text/plain", "application/json", "", None])
async def test_a_manifest_names_its_own_type_where_its_header_does_not(
    hub: Hub, mirror: Mirror, image: Image, media_type: str, told: str | None
) -> None:
    body = documents(image)[media_type]
    digest = push(hub, body, media_type)
    hub.faults.add(Fault(kind="manifest", headers={"Content-Type": told}, times=None))
    for reference in ("odd", digest):
        got = await mirror.manifest(REPOSITORY, reference)
        assert (got.body, got.headers["Content-Type"]) == (body, media_type)


@pytest.mark.parametrize("media_type", TYPES)
async def test_a_lost_index_does_not_change_a_manifests_type(
    hub: Hub, run: Run, image: Image, media_type: str
) -> None:
    body = documents(image)[media_type]
    digest = push(hub, body, media_type)
    async with run() as mirror:
        await mirror.manifest(REPOSITORY, "odd")
    mirror.folder.lose_index()
    hub.faults.add(Fault(kind="manifest", headers={"Content-Type": None}, times=None))
    async with run() as mirror:
        for reference in (digest, "odd"):
            got = await mirror.manifest(REPOSITORY, reference)
            assert (got.body, got.headers["Content-Type"]) == (body, media_type)
    assert hub.pulls == 1


@pytest.mark.parametrize("flavour", ["oci", "docker"])
@pytest.mark.parametrize(
    "told", ["text/html", "text/plain", "application/json", "application/octet-stream", "", None]
)
@pytest.mark.parametrize("promised", [True, False])
async def test_an_image_keeps_its_type_under_any_header(
    hub: Hub, mirror: Mirror, flavour: str, told: str | None, promised: bool
) -> None:
    image = make_image(7, media=flavour)  # type: ignore[arg-type]
    hub.add(image, REPOSITORY, "7")
    odd: dict[str, str | None] = {"Content-Type": told}
    if not promised:
        odd["Docker-Content-Digest"] = None
    hub.faults.add(Fault(kind="manifest", headers=odd, times=None))
    for method in ("HEAD", "GET"):
        for reference in ("7", image.digest):
            got = await mirror.manifest(REPOSITORY, reference, method)
            assert (got.status, got.headers["Content-Type"]) == (200, image.media_type)
            assert got.headers["Docker-Content-Digest"] == image.digest
            assert got.body == (image.manifest if method == "GET" else b"")


@pytest.mark.parametrize("coding", ["", "identity", "none", "UTF-8", "aws-chunked", "gzip"])
async def test_a_proven_manifest_is_served_whatever_coding_is_named(
    hub: Hub, mirror: Mirror, image: Image, coding: str
) -> None:
    hub.faults.add(Fault(kind="manifest", headers={"Content-Encoding": coding}, times=None))
    for reference in ("latest", image.digest):
        got = await mirror.manifest(REPOSITORY, reference)
        assert (got.status, got.body) == (200, image.manifest)
        assert "Content-Encoding" not in got.headers


async def test_a_manifest_that_is_compressed_unasked_is_served_as_it_is(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    coded = Fault(headers={"Content-Encoding": "gzip"}, body=gzip.compress, times=None)
    hub.faults.add(replace(coded, kind="manifest"))
    for reference in ("latest", image.digest):
        for method in ("HEAD", "GET"):
            got = await mirror.manifest(REPOSITORY, reference, method)
            assert (got.status, got.headers["Content-Length"]) == (200, str(image.size))
            assert "Content-Encoding" not in got.headers
            assert got.body == (image.manifest if method == "GET" else b"")
    assert hub.pulls == 1


async def test_a_small_manifest_that_grows_without_end_is_refused(hub: Hub, mirror: Mirror) -> None:
    bomb = b'{"a":"' + b" " * 50_000_000 + b'"}'
    digest = push(hub, bomb, media.OCI_MANIFEST)
    coded = Fault(headers={"Content-Encoding": "gzip"}, body=gzip.compress(bomb), times=None)
    hub.faults.add(replace(coded, kind="manifest"))
    assert (await mirror.manifest(REPOSITORY, digest)).status == 502


@pytest.mark.parametrize("body", [PAGE, b'{"errors": []}', b"", b'{"schemaVersion": 2}'])
@pytest.mark.parametrize("told", ["text/html", "application/json"])
async def test_something_else_in_place_of_a_tag_is_not_passed_on(
    hub: Hub, run: Run, image: Image, body: bytes, told: str
) -> None:
    odd = {"Content-Type": told, "Docker-Content-Digest": None, "Content-Length": str(len(body))}
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        hub.faults.add(Fault(kind="manifest", headers=odd, body=body, times=None))
        kept = await mirror.manifest(REPOSITORY, "latest")
        assert (kept.body, kept.cache) == (image.manifest, "hit; detail=stale")
        hub.tag(REPOSITORY, "new", image)
        assert (await mirror.manifest(REPOSITORY, "new")).status == 502
        assert (await mirror.manifest(REPOSITORY, "new", "HEAD")).status == 502
    assert hub.count(kind="manifest", method="GET", reference="new") == 2


@pytest.mark.parametrize("fault", ["wrong bytes", "a page", "cut", "short", "nothing"])
@pytest.mark.parametrize("by", ["tag", "digest", "tag without a promise"])
async def test_a_manifest_that_came_wrong_once_is_asked_for_once_more(
    hub: Hub, mirror: Mirror, image: Image, fault: str, by: str
) -> None:
    spoilt = {
        "wrong bytes": Fault(body=b'{"errors": []}'),
        "a page": Fault.page(),
        "cut": Fault(cut_after=100),
        "short": Fault(short_at=100),
        "nothing": Fault(body=b""),
    }[fault]
    once = replace(spoilt, kind="manifest", method="GET")
    if by == "tag without a promise":
        nameless = {**once.headers, "Docker-Content-Digest": None}
        hub.faults.add(Fault(kind="manifest", method="HEAD", status=405, times=None))
        once = replace(once, headers=nameless)
    hub.faults.add(once)
    reference = image.digest if by == "digest" else "latest"
    got = await mirror.manifest(REPOSITORY, reference)
    assert (got.status, got.body) == (200, image.manifest)
    assert hub.count(kind="manifest", method="GET", status=200) == 2


@pytest.mark.parametrize("fault", [Fault(body=b"{}"), Fault(cut_after=9), Fault.page()])
async def test_a_tag_is_had_though_its_digest_always_comes_wrong(
    hub: Hub, mirror: Mirror, image: Image, fault: Fault
) -> None:
    """The second question is the plain one of a client without a mirror, and costs no third."""
    by_digest = replace(fault, kind="manifest", reference=image.digest, method="GET", times=None)
    hub.faults.add(by_digest)
    got = await mirror.manifest(REPOSITORY, "latest")
    assert (got.status, got.body) == (200, image.manifest)
    assert hub.count(kind="manifest", method="GET", status=200) == 2


async def test_a_manifest_that_came_wrong_twice_is_had_seconds_later(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.faults.add(Fault(kind="manifest", method="GET", body=b"{}", times=2))
    async with run() as mirror:
        assert (await mirror.manifest(REPOSITORY, image.digest)).status == 502
        assert (await mirror.manifest(REPOSITORY, image.digest)).status == 502
        assert hub.count(kind="manifest", method="GET", status=200) == 2
    async with run() as mirror:  # after a restart the two failures are forgotten
        assert (await mirror.manifest(REPOSITORY, image.digest)).body == image.manifest


# Signed manifests of schema 1


def signed_image(image: Image) -> tuple[bytes, bytes]:
    """Sign an image of one layer; returns the body and the bytes of its digest."""
    layers = [{"blobSum": image.layers[0].digest}]
    return sign({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": layers})


@pytest.mark.parametrize("told", [media.SCHEMA1_SIGNED, media.SCHEMA1, "application/json"])
@pytest.mark.parametrize("promised", [True, False])
async def test_a_signed_manifest_is_proven_by_its_payload_and_not_stored(
    hub: Hub,
    run: Run,
    image: Image,
    told: str,
    promised: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    body, signed = signed_image(image)
    digest = push(hub, body, told, digest=str(Digest.of(signed)))
    if not promised:
        nameless = {"Docker-Content-Digest": None}
        hub.faults.add(Fault(kind="manifest", headers=nameless, times=None))
    async with run() as mirror:
        with caplog.at_level(logging.INFO):
            for method in ("HEAD", "GET", "GET"):
                got = await mirror.manifest(REPOSITORY, "odd", method)
                assert got.headers["Docker-Content-Digest"] == digest
                assert got.body == (body if method == "GET" else b"")
                expected = media.SCHEMA1_SIGNED if told == "application/json" else told
                assert got.headers["Content-Type"] == expected
        assert (await mirror.manifest(REPOSITORY, digest)).body == body
        assert not mirror.folder.blobs()
        assert f"{digest} has a schema 1 signature" in caplog.text
        layer = image.layers[0]
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
    assert hub.pulls == 1
    async with run() as mirror:  # the manifest is pulled again, and the tag is right
        assert (await mirror.manifest(REPOSITORY, "odd")).body == body


async def test_unsigned_fields_of_a_signed_manifest_are_not_believed(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    body, signed = signed_image(image)
    digest = str(Digest.of(signed))
    forged = body.replace(b'"signatures"', b'"fsLayers2": [], "signatures"')
    assert payload(body) == signed
    assert payload(forged) is None
    push(hub, forged, media.SCHEMA1_SIGNED, digest=digest)
    for reference in ("odd", digest):
        assert (await mirror.manifest(REPOSITORY, reference)).status == 502


@pytest.mark.parametrize(
    "protected",
    [
        {},
        {"formatLength": -1, "formatTail": ""},
        {"formatLength": 10**9, "formatTail": ""},
        {"formatLength": "5", "formatTail": ""},
        {"formatLength": True, "formatTail": "fQ"},
        {"formatLength": 5, "formatTail": 7},
        {"formatLength": 5, "formatTail": "é"},
        [],
        7,
    ],
)
def test_a_signature_of_another_form_signs_nothing(protected: object) -> None:
    text = coded(json.dumps(protected).encode())
    forms: list[object] = [
        [{"protected": text}],
        [{"protected": 5}],
        [],
        {},
        "x",
        [7],
        None,
        [text],
    ]
    for signatures in forms:
        assert payload(json.dumps({"a": 1, "signatures": signatures}).encode()) is None


def test_two_signatures_of_different_parts_sign_nothing(image: Image) -> None:
    body, _ = signed_image(image)
    document = json.loads(body)
    other = coded(json.dumps({"formatLength": 5, "formatTail": ""}).encode())
    document["signatures"].append({"protected": other})
    assert payload(json.dumps(document).encode()) is None


# Several upstreams


@asynccontextmanager
async def two(run: Run, hub: Hub) -> AsyncIterator[tuple[Mirror, Hub]]:
    """Run a mirror of two upstreams; gives the second one, too."""
    async with Hub(Terms()) as twin:
        upstreams = {"docker.io": {"url": hub.url}, "twin.example": {"url": twin.url}}
        async with run(upstreams=upstreams) as mirror:
            yield mirror, twin


TWIN = "twin.example/org/app"


async def test_content_is_proven_by_a_get_of_an_upstream_that_refuses_heads(
    hub: Hub, run: Run, image: Image
) -> None:
    async with two(run, hub) as (mirror, twin):
        await mirror.manifest(REPOSITORY, "latest")
        twin.add(image, "org/app", "latest")
        twin.faults.add(Fault(kind="manifest", method="HEAD", status=405, times=None))
        for method in ("HEAD", "GET"):
            for reference in (image.digest, "latest"):
                got = await mirror.manifest(TWIN, reference, method)
                assert got.headers["Docker-Content-Digest"] == image.digest
                assert got.body == (image.manifest if method == "GET" else b"")
        assert twin.pulls == 2  # by digest, and for the digest of the tag
        stranger = await mirror.manifest("twin.example/org/other", image.digest)
        assert stranger.status in (403, 404)


async def test_a_meaningless_type_does_not_stick_to_content_of_another_upstream(
    hub: Hub, run: Run, image: Image
) -> None:
    body = json.dumps({"schemaVersion": 2, "layers": [descriptor(image)]}).encode()
    async with two(run, hub) as (mirror, twin):
        twin.add(Index(body, "application/vnd.any+json", str(Digest.of(body)), ()), "org/app", "a")
        await mirror.manifest(TWIN, "a")
        push(hub, body, media.OCI_MANIFEST)
        told = {REPOSITORY: media.OCI_MANIFEST, TWIN: "application/vnd.any+json"}
        for repository, media_type in told.items():
            got = await mirror.manifest(repository, str(Digest.of(body)))
            assert (got.body, got.headers["Content-Type"]) == (body, media_type)


async def test_each_upstream_has_its_own_type_for_the_same_bytes_and_keeps_it(
    hub: Hub, run: Run, image: Image
) -> None:
    """An OCI manifest that the first upstream serves as Docker's stays OCI's for the second one."""
    body = json.dumps({"schemaVersion": 2, "layers": [descriptor(image)]}).encode()
    digest = str(Digest.of(body))
    told = {TWIN: media.DOCKER_MANIFEST, REPOSITORY: media.OCI_MANIFEST}
    async with Hub(Terms()) as twin:
        upstreams = {"docker.io": {"url": hub.url}, "twin.example": {"url": twin.url}}
        twin.add(Index(body, media.DOCKER_MANIFEST, digest, ()), "org/app", "a")
        push(hub, body, media.OCI_MANIFEST, "a")
        for _ in range(3):
            async with run(upstreams=upstreams) as mirror:
                for repository, media_type in told.items():
                    for reference in ("a", digest):
                        for method in ("GET", "HEAD"):
                            got = await mirror.manifest(repository, reference, method)
                            assert (got.status, got.headers["Content-Type"]) == (200, media_type)
        assert (hub.pulls, twin.pulls) == (1, 1)


async def test_a_repository_that_has_it_as_a_blob_has_no_manifest_of_it(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    """Both repositories have the bytes, but only one of them serves the bytes as a manifest."""
    body = json.dumps({"schemaVersion": 2, "layers": [descriptor(image)]}).encode()
    twin = Blob.of(body)
    holder = replace(image, layers=(*image.layers, twin))
    hub.add(holder, "library/blobs", "1")
    assert (await mirror.blob("library/blobs", twin.digest)).body == body
    await mirror.settled()
    push(hub, body, media.OCI_MANIFEST)
    assert (await mirror.manifest(REPOSITORY, "odd")).body == body
    assert (await mirror.manifest("library/blobs", twin.digest)).status == 404
    assert (await mirror.blob("library/blobs", twin.digest)).body == body


# Upkeep


async def do(*arguments: str | Path) -> Ended:
    """Run a command to its end."""
    async with launched(*arguments) as command:
        return await command.ended()


async def test_upkeep_takes_every_type_for_a_manifest(hub: Hub, run: Run, image: Image) -> None:
    layer = image.layers[0].digest
    async with run() as mirror:
        root = mirror.folder.path
        for number, (media_type, body) in enumerate(documents(image).items()):
            push(hub, body, media_type, f"odd{number}")
            await mirror.manifest(REPOSITORY, f"odd{number}")
        await mirror.blob(REPOSITORY, layer)
        await mirror.settled()
    assert (await do("verify", "--data-dir", root)).code == 0
    assert "0 files without an entry" in (await do("gc", "--data-dir", root)).out
    for number in range(len(TYPES)):
        assert mirror.folder.blob(layer).exists()  # the other blobs need it
        ended = await do("purge", "--data-dir", root, f"{REPOSITORY}:odd{number}")
        assert "1 tag, " in ended.out, ended
    assert not mirror.folder.blob(layer).exists()
