"""Documents that mean one thing to the mirror and another to its clients, or too much to all."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import tracemalloc

import pytest

from mirror.oci import manifest, media, strict_json
from mirror.oci.digest import Digest
from mirror.upstream.auth import token_exchange
from tests.attacks.steps import MOST, steps
from tests.attacks.test_addresses import Site, serving
from tests.standin import Fault, Hub, Image, make_artifact, with_fields
from tests.standin.images import Index
from tests.support.mirror import Mirror

REPOSITORY = "library/nginx"
DEEP = 100_000
CONFIG = '"config":{"digest":"sha256:' + "a" * 64 + '"}'


def push(hub: Hub, body: bytes, media_type: str = media.OCI_MANIFEST) -> str:
    """Let upstream have these bytes as a manifest; returns the digest."""
    digest = str(Digest.of(body))
    hub.add(Index(body, media_type, digest, ()), REPOSITORY)
    return digest


AMBIGUOUS = [
    ('{"manifests":[],"layers":[]}', media.OCI_INDEX),
    ('{"manifests":[],"layers":[]}', media.OCI_MANIFEST),
    ('{"manifests":[],"config":{}}', media.DOCKER_LIST),
    ('{"manifests":[]}', media.OCI_MANIFEST),
    ('{"manifests":[]}', media.DOCKER_MANIFEST),
    ('{"layers":[]}', media.OCI_INDEX),
    ("{" + CONFIG + "}", media.DOCKER_LIST),
    ('{"fsLayers":[],"layers":[]}', media.OCI_MANIFEST),
    ('{"fsLayers":[],"manifests":[]}', media.OCI_INDEX),
    ('{"Manifests":[],"layers":[]}', media.OCI_MANIFEST),  # Go's JSON knows no case
    ('{"manifests":[],"LAYERS":[]}', media.OCI_INDEX),
    ('{"MediaType":"' + media.OCI_INDEX + '"}', media.OCI_MANIFEST),
    ('{"mediaType":"' + media.OCI_INDEX + '"}', media.OCI_MANIFEST),
    ('{"mediaType":"' + media.DOCKER_MANIFEST + '"}', media.OCI_MANIFEST),
    ('{"mediaType":["' + media.OCI_MANIFEST + '"]}', media.OCI_MANIFEST),
    ("{" + CONFIG + "," + CONFIG + "}", media.OCI_MANIFEST),
    (
        '{"layers":[{"digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","digest":"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}]}',
        media.OCI_MANIFEST,
    ),
    (
        '{"layers":[{"digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","Digest":"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}]}',
        media.OCI_MANIFEST,
    ),
]


@pytest.mark.parametrize(("document", "media_type"), AMBIGUOUS)
async def test_a_document_that_reads_in_two_ways_is_neither_served_nor_kept(
    hub: Hub, mirror: Mirror, document: str, media_type: str
) -> None:
    digest = push(hub, document.encode(), media_type)
    got = await mirror.manifest(REPOSITORY, digest)
    assert (got.status, json.loads(got.body)["errors"][0]["code"]) == (502, "UNAVAILABLE")
    assert not mirror.folder.blobs()


@pytest.mark.parametrize("media_type", ["text/html", "text/plain", "application/octet-stream"])
async def test_a_proven_document_that_nothing_names_is_plain_json_to_everybody(
    hub: Hub, mirror: Mirror, media_type: str
) -> None:
    """No browser takes it for a page, and no engine for an image."""
    digest = push(hub, b'{"schemaVersion":2}', media_type)
    got = await mirror.manifest(REPOSITORY, digest)
    assert (got.status, got.headers["Content-Type"]) == (200, media.JSON)


AMBIGUOUS_ALONE = [
    '{"manifests":[],"layers":[]}',
    '{"manifests":[],"config":{}}',
    '{"fsLayers":[],"layers":[]}',
    '{"fsLayers":[],"manifests":[]}',
    '{"Manifests":[],"layers":[]}',
    '{"manifests":[],"LAYERS":[]}',
    '{"MediaType":"' + media.OCI_INDEX + '","layers":[]}',
    '{"mediaType":"' + media.OCI_INDEX + '","layers":[]}',
    '{"mediaType":"' + media.OCI_MANIFEST + '","manifests":[]}',
    "{" + CONFIG + "," + CONFIG + "}",
]


@pytest.mark.parametrize("document", AMBIGUOUS_ALONE)
@pytest.mark.parametrize("head", ['"schemaVersion":2,', '"schemaVersion":1,', ""])
async def test_an_ambiguous_document_is_not_served_under_a_meaningless_type(
    hub: Hub, mirror: Mirror, document: str, head: str
) -> None:
    """Readers would have to guess its type, and each would guess differently."""
    digest = push(hub, document.replace("{", "{" + head, 1).encode(), "application/json")
    assert (await mirror.manifest(REPOSITORY, digest)).status == 502


def wide(item: bytes) -> bytes:
    """Make a document of as many of these as a manifest has room for."""
    return b'{"x":[' + item * ((manifest.MAX_SIZE - 10) // len(item)) + b"0]}"


BOMBS = {
    "nested lists": b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "nested objects": b'{"x":' * DEEP + b"1" + b"}" * DEEP,
    "nested a little": b'{"x":' + b"[" * 400 + b"]" * 400 + b"}",
    "a huge number": b'{"x":' + b"9" * 100_000 + b"}",
    "not a number": b'{"x":NaN}',
    "infinity": b'{"x":-Infinity}',
    "not UTF-8": b'{"x":"\xff\xfe"}',
    "a list": b"[]",
    "nothing": b"",
    "many lists": wide(b"[],"),
    "many objects": wide(b"{},"),
    "many numbers": wide(b"0,"),
    "many texts": wide(b'"",'),
    "many members": b"{" + b",".join(b'"%x":0' % n for n in range(300_000)) + b"}",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
async def test_a_bomb_in_place_of_a_manifest_is_a_502(
    hub: Hub, mirror: Mirror, image: Image, bomb: bytes
) -> None:
    digest = push(hub, bomb)
    async with asyncio.timeout(5):
        assert (await mirror.manifest(REPOSITORY, digest)).status == 502
    assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("kind", ["tags", "referrers"])
async def test_a_bomb_in_place_of_a_listing_is_a_502(
    hub: Hub, mirror: Mirror, image: Image, kind: str, bomb: bytes
) -> None:
    hub.faults.add(Fault(kind="tags" if kind == "tags" else "referrers", body=bomb, times=None))
    path = "tags/list" if kind == "tags" else f"referrers/{image.digest}"
    async with asyncio.timeout(5):
        assert (await mirror.ask(f"/v2/{REPOSITORY}/{path}")).status == 502


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
async def test_a_bomb_in_place_of_a_token_is_a_502(
    hub: Hub, mirror: Mirror, image: Image, bomb: bytes
) -> None:
    hub.faults.add(Fault(kind="token", body=bomb, times=None))
    async with asyncio.timeout(5):
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 502
    hub.faults.clear()
    assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest


@pytest.mark.parametrize("bomb", [bomb for name, bomb in BOMBS.items() if "many" in name])
def test_a_wide_document_is_refused_before_anything_is_made_of_it(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too many"):
            strict_json.read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()


SHORT = b'{"digest":"sha256:%064x","size":1,"mediaType":"a/b"}'  # no shorter one is of use
FULL = SHORT[:-1] + b',"platform":{"architecture":"arm","os":"linux","variant":"v7"}}'


@pytest.mark.parametrize("descriptor", [SHORT, FULL])
async def test_an_honest_index_of_the_largest_size_is_served(
    hub: Hub, mirror: Mirror, descriptor: bytes
) -> None:
    count = (manifest.MAX_SIZE - 100) // (len(descriptor % 0) + 1)
    items = b",".join(descriptor % number for number in range(count))
    body = b'{"schemaVersion":2,"manifests":[' + items + b"]}"
    assert len(body) > 0.999 * manifest.MAX_SIZE
    digest = push(hub, body, media.OCI_INDEX)
    assert (await mirror.manifest(REPOSITORY, digest)).body == body


@pytest.mark.parametrize("life", ["1" + "0" * 400, "-1" + "0" * 400, "1e999", '"1e999"', '"nan"'])
def test_a_token_of_a_monstrous_life_is_used_for_an_hour_at_most(life: str) -> None:
    token = token_exchange.read(b'{"token":"t","expires_in":' + life.encode() + b"}", "token")
    assert 0 < token.life <= 3600


@pytest.mark.parametrize("claim", ['{"exp":1' + "0" * 400 + "}", '{"exp":1e308,"iat":-1e308}'])
def test_a_token_that_claims_a_monstrous_end_is_used_for_an_hour_at_most(claim: str) -> None:
    payload = base64.urlsafe_b64encode(claim.encode()).decode().rstrip("=")
    token = token_exchange.read(json.dumps({"token": f"a.{payload}.c"}).encode(), "token")
    assert 0 < token.life <= 3600


@pytest.mark.parametrize("token", ["a\r\nX-Injected: 1", "a\0", "a\x7f", "é", ""])
async def test_a_token_that_would_end_its_header_is_refused(
    hub: Hub, mirror: Mirror, image: Image, token: str
) -> None:
    hub.faults.add(
        Fault(kind="token", body=with_fields(token=token, access_token=token), times=None)
    )
    assert (await mirror.manifest(REPOSITORY, "latest")).status == 502
    assert all("x-injected" not in seen.headers for seen in hub.requests)


@pytest.mark.parametrize("size", [-1, 0, 2**63, 10**300, "1", None, True, 1.5])
async def test_the_size_that_a_descriptor_claims_is_not_believed(
    hub: Hub, mirror: Mirror, image: Image, size: object
) -> None:
    document = json.loads(image.manifest)
    for layer in document["layers"]:
        layer["size"] = size
    digest = push(hub, json.dumps(document).encode())
    assert (await mirror.manifest(REPOSITORY, digest)).status == 200
    layer = image.layers[0]
    assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
    assert mirror.stored.used < 10_000_000


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha256:" + "A" * 64, "", None])
async def test_a_descriptor_whose_digest_is_a_path_is_refused(
    hub: Hub, mirror: Mirror, digest: object
) -> None:
    body = json.dumps({"layers": [{"digest": digest}]}).encode()
    assert (await mirror.manifest(REPOSITORY, push(hub, body))).status == 502


async def test_the_urls_of_foreign_layers_are_never_asked(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    foreign = "sha256:" + "f" * 64
    async with serving(Site()) as thief:
        url = f"http://127.0.0.1:{thief.port}/layer"
        descriptor = {"mediaType": "application/x", "digest": foreign, "size": 2, "urls": [url]}
        body = json.dumps({"schemaVersion": 2, "layers": [descriptor]}).encode()
        assert (await mirror.manifest(REPOSITORY, push(hub, body))).status == 200
        assert (await mirror.blob(REPOSITORY, foreign)).status == 404
        assert thief.seen == []


ODD: list[object] = ["\ud800", "a\r\nSet-Cookie: x=1", "..", "a" * 129, 5, None, ["ok"], {"a": 1}]


@pytest.mark.parametrize("odd", ODD)
async def test_what_is_no_tag_is_not_listed(
    hub: Hub, mirror: Mirror, image: Image, odd: object
) -> None:
    hub.faults.add(Fault(kind="tags", body=with_fields(tags=["a", odd, "b"]), times=None))
    for query, tags in (("", ["a", "b"]), ("?n=1", ["a"]), ("?n=2", ["a", "b"])):
        got = await mirror.ask(f"/v2/{REPOSITORY}/tags/list{query}")
        assert (got.status, json.loads(got.body)["tags"]) == (200, tags)
    metrics = (await mirror.ask("/metrics")).body
    assert b'mirror_tags_left_out_total{upstream="docker.io"} 2.0' in metrics


@pytest.mark.parametrize("tags", [{"ok": 1}, "latest", 5, True, [5] * 2000, [[]] * 2000])
async def test_what_is_no_list_of_tags_is_a_502(
    hub: Hub, mirror: Mirror, image: Image, tags: object
) -> None:
    hub.faults.add(Fault(kind="tags", body=with_fields(tags=tags), times=None))
    for query in ("", "?n=1", "?n=2"):
        assert (await mirror.ask(f"/v2/{REPOSITORY}/tags/list{query}")).status == 502


@pytest.mark.parametrize(
    "item",
    [
        {"digest": "sha256:../../etc"},
        {"digest": 5},
        {},
        {"digest": "sha256:" + "a" * 64, "mediaType": 5},
        {"digest": "sha256:" + "a" * 64, "mediaType": "m", "size": -1},
        {"digest": "sha256:" + "a" * 64, "mediaType": "m", "size": "big"},
    ],
)
async def test_what_is_no_descriptor_is_no_referrer(
    hub: Hub, mirror: Mirror, image: Image, item: object
) -> None:
    hub.faults.add(Fault(kind="referrers", body=with_fields(manifests=[item]), times=None))
    assert (await mirror.ask(f"/v2/{REPOSITORY}/referrers/{image.digest}")).status == 502


async def test_referrers_of_one_repository_are_not_told_of_another(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.add(image, "library/other", "latest")
    poison = make_artifact(9, image, annotations={"who": "evil"})
    hub.add(poison, "library/other")
    told = await mirror.ask(f"/v2/library/other/referrers/{image.digest}")
    assert [each["digest"] for each in json.loads(told.body)["manifests"]] == [poison.digest]
    told = await mirror.ask(f"/v2/{REPOSITORY}/referrers/{image.digest}")
    assert json.loads(told.body)["manifests"] == []


def test_a_manifest_is_read_without_a_key_of_its_own_type_only() -> None:
    body = b'{"schemaVersion":2,"annotations":{"A":"1","a":"2"},"layers":[]}'
    read = manifest.read(body, Digest.of(body), media.OCI_MANIFEST)
    assert read.body == body


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1E+99999", '[1, {"b": 2e400}]'])
def test_a_number_that_is_not_finite_is_not_written_anew(number: str) -> None:
    """It would be `Infinity`, which no client reads (RFC 8259, 6)."""
    with pytest.raises(ValueError, match="too large"):
        strict_json.read(b'{"a": ' + number.encode() + b"}", anew=True)
    assert strict_json.read(b'{"a": 1e300, "b": 12345678901234567890}', anew=True)["a"] == 1e300


async def test_a_list_of_referrers_with_infinity_is_refused(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    artifact = make_artifact(1, image)
    hub.add(artifact, REPOSITORY)

    def infinite(body: bytes) -> bytes:
        return body.replace(b'"size"', b'"x": 1e999, "size"', 1)

    hub.faults.add(Fault(kind="referrers", body=infinite, times=None))
    got = await mirror.ask(f"/v2/{REPOSITORY}/referrers/{image.digest}")
    assert got.status == 502
    assert b"Infinity" not in got.body


async def test_long_documents_are_read_by_one_thread_in_their_order() -> None:
    """Each thread takes its turn of the interpreter, and the event loop waits for all of them."""
    names = set[str]()

    def reader(body: bytes) -> int:
        names.add(threading.current_thread().name)
        return len(strict_json.read(body)["a"])

    body = b'{"a":[' + b",".join([b"1"] * 100_000) + b"]}"
    lengths = await asyncio.gather(*(strict_json.on_thread(reader, body) for _ in range(40)))
    assert lengths == [100_000] * 40
    assert len(names) == 1


async def test_many_lists_of_tags_at_once_are_read_in_turns(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    """Forty that are of nothing but entries beside the tags held the loop for seconds."""
    odd = b'{"child":[' + b",".join([b"1"] * 50_000) + b'],"name":"a","tags":[]}'
    hub.faults.add(Fault(kind="tags", body=odd, times=None))
    assert (await mirror.ask(f"/v2/{REPOSITORY}/tags/list")).status == 200
    pages = (mirror.ask(f"/v2/{REPOSITORY}/tags/list?last=t{number}") for number in range(20))
    with steps() as longest:
        assert {got.status for got in await asyncio.gather(*pages)} == {200}
    assert longest.seconds < MOST, longest.what


@pytest.mark.parametrize("query", ["", "?n=100", f"?n=100&last={9:0100}"])
async def test_a_crowd_that_asks_for_a_long_list_holds_the_loop_as_one_client(
    hub: Hub, mirror: Mirror, image: Image, query: str
) -> None:
    """Each had the list of 3 MB copied for itself, all in one turn of the loop."""
    tags = [f"{number:0100}" for number in range(30_000)]
    listed = json.dumps({"name": REPOSITORY, "tags": tags}, separators=(",", ":")).encode()
    hub.faults.add(Fault(kind="tags", body=listed, times=None))
    request = f"GET /v2/{REPOSITORY}/tags/list{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    clients = [
        await asyncio.open_connection(*mirror.daemon.address, limit=4096) for _ in range(100)
    ]
    with steps() as longest:
        for _, writer in clients:
            writer.write(request)
        heads = [await reader.readuntil(b"\r\n\r\n") for reader, _ in clients]
    for _, writer in clients:
        writer.transport.abort()
    assert {head[:12] for head in heads} == {b"HTTP/1.1 200"}
    assert longest.turn < MOST
