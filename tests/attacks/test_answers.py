"""A hostile answer of upstream reaches no client, fills no memory, and breaks nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import AsyncIterator

import pytest

from mirror.oci import media
from mirror.oci.digest import Digest
from tests.attacks.raw import NAME, Raw, answer, speaking
from tests.attacks.test_documents import push
from tests.standin import Fault, Hub, Image, make_image, make_index
from tests.support.mirror import Got, Mirror, Run

BODY = b'{"schemaVersion":2,"layers":[]}'
DIGEST = str(Digest.of(BODY))
TYPE = b"Content-Type: " + media.OCI_MANIFEST.encode()
CHUNKED = b"Transfer-Encoding: chunked"
MIB = 1024 * 1024


@pytest.fixture
async def raw() -> AsyncIterator[Raw]:
    """An upstream that says any bytes."""
    async with speaking(Raw()) as raw:
        yield raw


async def asked(run: Run, raw: Raw, path: str = f"manifests/{DIGEST}", method: str = "GET") -> Got:
    """Ask a mirror of it once, and see that the mirror is well afterwards."""
    async with run(upstreams={"docker.io": {"url": raw.url}}, answer_timeout=5) as mirror:
        async with asyncio.timeout(15):
            got = await mirror.ask(f"/v2/{NAME}/{path}", method)
            assert (await mirror.ask("/readyz")).status in (200, 503)
            assert (await mirror.ask("/metrics")).status == 200
    return got


# What is said in headers


@pytest.mark.parametrize(
    "line",
    [
        b"X-A: b\r\n Set-Cookie: x=1",  # obs-fold
        b"X-A: b\rSet-Cookie: x=1",
        b"X-A: b\nSet-Cookie: x=1",
        b"X-A: \0",
        b"Set-Cookie: x=1",
        b"Set-Cookie: x=1\r\nStrict-Transport-Security: max-age=1\r\nContent-Security-Policy: x",
        b"Location: http://evil.example/\r\nWWW-Authenticate: Basic realm=evil",
        b"Warning: 299 evil\r\nOCI-Namespace: evil\r\nOCI-Filters-Applied: evil\r\nLink: <evil>",
    ],
)
async def test_no_header_of_upstreams_reaches_a_client(run: Run, raw: Raw, line: bytes) -> None:
    raw.answers["/manifests/"] = answer(BODY, TYPE, line)
    got = await asked(run, raw)
    assert got.status in (200, 502)
    told = {name.lower() for name in got.headers}
    assert not told & {"set-cookie", "x-a", "strict-transport-security", "www-authenticate"}
    assert not told & {"content-security-policy", "location", "warning", "link", "oci-namespace"}
    assert "evil" not in str(got.headers)


@pytest.mark.parametrize(
    "name", [b"Content-Type", b"Docker-Content-Digest", b"ETag", b"Content-Encoding"]
)
@pytest.mark.parametrize(
    "value", [b"a\r\n b: c", b"\xff\xfe", b"a\x0bb", b"x" * 30_000, b"=?utf-8?q?a=0d=0ab?="]
)
async def test_a_headers_value_is_never_passed_on_unread(
    run: Run, raw: Raw, name: bytes, value: bytes
) -> None:
    lines = [line for line in [TYPE] if not line.startswith(name)]
    raw.answers["/manifests/"] = answer(BODY, *lines, name + b": " + value)
    got = await asked(run, raw)
    assert got.status in (200, 502)
    if got.status == 200:  # the digest proves it, whatever the headers say
        assert got.body == BODY
        assert got.headers["ETag"] == f'"{DIGEST}"'
        assert got.headers["Docker-Content-Digest"] == DIGEST
        assert got.headers["Content-Type"] in (media.OCI_MANIFEST, media.JSON)
        assert "Content-Encoding" not in got.headers
    assert len(got.body) < 1000


@pytest.mark.parametrize("source", [b"\xff\xfe", "é\u009b31m".encode(), b"x" * 3000, b"a\tb"])
async def test_where_upstream_counts_may_be_told_in_any_bytes(
    run: Run, raw: Raw, source: bytes
) -> None:
    limits = (b"RateLimit-Limit: 100;w=21600", b"RateLimit-Remaining: 99;w=21600")
    lines = (TYPE, *limits, b"Docker-RateLimit-Source: " + source)
    raw.answers["/manifests/"] = answer(BODY, *lines)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        assert (await mirror.manifest(NAME, DIGEST)).body == BODY
        assert (await mirror.ask("/metrics")).status == 200
    raw.answers.clear()
    async with run(upstreams={"docker.io": {"url": raw.url}}) as again:  # all of it was written
        assert (await again.manifest(NAME, DIGEST)).body == BODY


@pytest.mark.parametrize(
    "challenge",
    [
        b'Bearer realm="URL/token",service="\xff\xfe",scope="\xff"',
        b'Bearer realm="URL/\xff\xfe"',
        b'Bearer realm="URL/token",scope="repository:a:pull\\\r"',
        b'Bearer realm="URL/token?a=%0d%0aX-Injected:1"',
        b'Bearer realm="URL\\/token\t\x0b"',
        b'Bearer realm="' + b"x" * 20_000 + b'"',
        b"Bearer " + b"a=b," * 5000,
        b"Basic " * 5000,
        b'Bearer realm="//evil.example/token"',
        b'Bearer realm="URL@evil.example"',
    ],
)
async def test_a_hostile_challenge_is_an_honest_error(run: Run, raw: Raw, challenge: bytes) -> None:
    line = b"WWW-Authenticate: " + challenge.replace(b"URL", raw.url.encode())
    raw.answers["/manifests/"] = answer(b"{}", line, status=b"401 Unauthorized")
    got = await asked(run, raw)
    assert got.status in (403, 502, 503)
    assert "WWW-Authenticate" not in got.headers
    assert all(b"\nx-injected" not in head.lower() for head in raw.heads)


@pytest.mark.parametrize("count", [1001, 20_000])
async def test_too_many_headers_are_a_502(run: Run, raw: Raw, count: int) -> None:
    raw.answers["/manifests/"] = answer(BODY, TYPE, *(b"X-%d: y" % n for n in range(count)))
    assert (await asked(run, raw)).status == 502


@pytest.mark.parametrize("status", [b"200 OK", b"307 Elsewhere", b"401 Unauthorized"])
async def test_what_upstream_said_before_it_hung_up_is_told_to_nobody(
    run: Run, raw: Raw, status: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """Within its headers: a library's exception may hold all of them."""
    lines = b"Location: http://cdn.example/x?sig=S1GNATURE\r\nX-Token: T0KEN\r\n"
    raw.answers["/manifests/"] = b"HTTP/1.1 " + status + b"\r\n" + lines
    got = await asked(run, raw)
    assert (got.status, b"it closed the connection" in got.body) == (503, True)
    told = "".join(capfd.readouterr()) + got.body.decode()
    # The access log has it, too.
    assert "it closed the connection" in told.replace(got.body.decode(), "")
    assert "S1GNATURE" not in told
    assert "T0KEN" not in told
    assert len(got.body) < 300


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"name":"library/nginx","tags":["latest"]}', 200),
        (b'{"name":"library/nginx","tags":[]}', 200),
        (b'{"name":"library/nginx","tags":null}', 403),
        (b'{"name":"library/nginx","tags":{"latest":1}}', 403),
        (b'{"errors":[{"code":"UNAUTHORIZED"}]}', 403),
        (b"<html>Please log in</html>", 403),
        (b'["latest"]', 403),
        (b"", 403),
    ],
)
async def test_only_a_list_of_tags_makes_a_repository_public(
    run: Run, raw: Raw, body: bytes, status: int
) -> None:
    """The wanted blob itself is given to the upstream's account only."""
    raw.answers["HEAD "] = answer(b"", status=b"401 Unauthorized")
    raw.answers["/tags/list"] = answer(body, b"Content-Type: application/json")
    raw.answers["/manifests/"] = answer(BODY, TYPE)
    account = {"url": raw.url, "username": "robot", "password": "s3cret-word"}
    async with run(upstreams={"docker.io": account}) as mirror:
        assert (await mirror.manifest(NAME, DIGEST)).status == status


# How long it is


@pytest.mark.parametrize("lie", [b"5", b"99999999999999999999", b"-5", b"+31", b"0x1f", b"31, 31"])
async def test_a_length_that_lies_is_believed_by_nobody(run: Run, raw: Raw, lie: bytes) -> None:
    raw.answers["/manifests/"] = answer(BODY, TYPE, b"Content-Length: " + lie, length=False)
    assert (await asked(run, raw)).status in (502, 503)


async def test_two_lengths_or_a_length_and_chunks_are_no_answer(run: Run, raw: Raw) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    for lines, body in (
        ((b"Content-Length: 5", b"Content-Length: 31"), BODY),
        ((b"Content-Length: 5", CHUNKED), chunked),
        ((CHUNKED + b", identity",), chunked),
    ):
        raw.answers["/manifests/"] = answer(body, TYPE, *lines, length=False)
        got = await asked(run, raw)
        assert got.status in (502, 503) or got.body == BODY


@pytest.mark.parametrize(
    ("path", "most"),
    [
        (f"manifests/{DIGEST}", 4 * MIB),
        ("tags/list", 4 * MIB),
        (f"referrers/{DIGEST}", 4 * MIB),
    ],
)
async def test_what_never_ends_is_cut_at_its_bound(
    run: Run, raw: Raw, path: str, most: int
) -> None:
    raw.answers[path] = answer(b"", TYPE, CHUNKED, length=False)
    raw.endless = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert (await asked(run, raw, path)).status in (502, 503)
    assert raw.sent < most + 12 * MIB  # what the sockets hold besides


async def test_a_token_that_never_ends_is_cut_at_its_bound(run: Run, raw: Raw) -> None:
    challenge = f'WWW-Authenticate: Bearer realm="{raw.url}/token"'.encode()
    raw.answers["/manifests/"] = answer(b"{}", challenge, status=b"401 Unauthorized")
    raw.answers["/token"] = answer(b"", TYPE, CHUNKED, length=False)
    raw.endless = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert (await asked(run, raw)).status in (502, 503)
    assert raw.sent < 24 * MIB


@pytest.mark.parametrize("status", [b"404 Not Found", b"500 No", b"403 No", b"307 Temporary"])
async def test_an_error_that_never_ends_is_not_read(run: Run, raw: Raw, status: bytes) -> None:
    raw.answers["/manifests/"] = answer(b"", CHUNKED, status=status, length=False)
    raw.endless = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert (await asked(run, raw)).status in (403, 404, 502, 503)
    assert raw.sent < 36 * MIB


@pytest.mark.parametrize(
    "status", [b"101 Switching Protocols", b"204 No Content", b"304 Not", b"999 X"]
)
async def test_an_answer_of_no_use_is_a_502(run: Run, raw: Raw, status: bytes) -> None:
    raw.answers["/manifests/"] = answer(BODY, TYPE, status=status)
    assert (await asked(run, raw)).status in (502, 503)


# What is packed


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "gzip, gzip", "x"])
@pytest.mark.parametrize("kind", ["manifest", "blob", "tags", "referrers"])
async def test_what_is_packed_is_never_unpacked(
    hub: Hub, mirror: Mirror, image: Image, kind: str, encoding: str
) -> None:
    bomb = gzip.compress(b" " * 10 * MIB)
    hub.faults.add(
        Fault(kind=kind, body=bomb, headers={"Content-Encoding": encoding}, times=None)  # type: ignore[arg-type]
    )
    paths = {
        "manifest": f"manifests/{image.digest}",
        "blob": f"blobs/{image.config.digest}",
        "tags": "tags/list",
        "referrers": f"referrers/{image.digest}",
    }
    got = await mirror.ask(f"/v2/{NAME}/{paths[kind]}")
    assert (got.status, len(got.body) < 1000) == (502, True)
    assert not mirror.folder.blobs()


async def test_a_packed_token_is_never_unpacked(hub: Hub, mirror: Mirror, image: Image) -> None:
    headers = {"Content-Encoding": "gzip"}
    hub.faults.add(Fault(kind="token", body=gzip.compress, headers=headers, times=None))
    assert (await mirror.manifest(NAME, "latest")).status == 502
    bomb = zlib.compress(b" " * 10 * MIB)
    hub.faults.clear()
    hub.faults.add(Fault(kind="token", body=bomb, headers={"Content-Encoding": "deflate"}))
    assert (await mirror.manifest(NAME, "latest")).status == 502


async def test_a_layer_that_is_a_bomb_is_passed_on_as_it_is(hub: Hub, mirror: Mirror) -> None:
    bomb = make_image(5, [10 * MIB])
    hub.add(bomb, NAME, "bomb")
    layer = bomb.layers[0]
    got = await mirror.blob(NAME, layer.digest)
    assert (got.body, got.headers.get("Content-Encoding")) == (layer.read(), None)


# What it is


async def test_bytes_of_another_digest_are_neither_served_nor_kept(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    other = make_image(3)
    hub.faults.add(Fault(kind="manifest", method="GET", body=other.manifest, times=None))
    for reference in ("latest", image.digest):
        assert (await mirror.manifest(NAME, reference)).status == 502
    assert not mirror.folder.blobs()


async def test_a_digest_in_a_header_is_believed_only_when_the_bytes_prove_it(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    """The digest is of another manifest, of another algorithm, or none at all."""
    lies = ["sha256:" + "0" * 64, "sha512:" + image.digest[7:] * 2, "x", "", "sha256:" + "é" * 32]
    for number, lie in enumerate(lies):
        tag = f"t{number}"
        hub.tag(NAME, tag, image)
        told: dict[str, str | None] = {"Docker-Content-Digest": lie}
        hub.faults.add(Fault(kind="manifest", headers=told, times=None))
        got = await mirror.manifest(NAME, tag)
        if number < 2:
            assert got.status in (404, 502), lie
        else:
            assert (got.body, got.headers["Docker-Content-Digest"]) == (
                image.manifest,
                image.digest,
            )
        hub.faults.clear()
    right = str(Digest.of(image.manifest, "sha512"))
    hub.faults.add(Fault(kind="manifest", headers={"Docker-Content-Digest": right}, times=1))
    assert (await mirror.manifest(NAME, "latest", "HEAD")).status in (200, 502)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_manifest_by_one_algorithm_is_not_proven_by_the_other(
    hub: Hub, mirror: Mirror, algorithm: str
) -> None:
    push(hub, BODY)
    wanted = str(Digest.of(b"{}", algorithm))
    told: dict[str, str | None] = {"Content-Type": media.OCI_MANIFEST}
    for promised in (None, wanted, DIGEST):
        told["Docker-Content-Digest"] = promised
        hub.faults.add(Fault(kind="manifest", status=200, body=BODY, headers=told, times=None))
        assert (await mirror.manifest(NAME, wanted)).status == 502
        hub.faults.clear()


async def test_a_poisoned_tag_leaves_what_was_there(hub: Hub, run: Run, image: Image) -> None:
    """An upstream that names, by HEAD and by GET, content that it then does not send."""
    async with run(tag_ttl=0) as mirror:
        assert (await mirror.manifest(NAME, "latest")).body == image.manifest
        poison: dict[str, str | None] = {"Docker-Content-Digest": "sha256:" + "6" * 64}
        hub.faults.add(Fault(kind="manifest", method="HEAD", headers=poison, times=None))
        told = {"Content-Type": media.OCI_MANIFEST, **poison}
        hub.faults.add(Fault(kind="manifest", status=200, body=BODY, headers=told, times=None))
        got = await mirror.manifest(NAME, "latest")
        assert (got.status, got.body) == (200, image.manifest)
        assert got.headers["Docker-Content-Digest"] == image.digest


async def test_a_child_that_lies_is_neither_served_nor_kept(hub: Hub, mirror: Mirror) -> None:
    child, other = make_image(1), make_image(2)
    index = make_index([child])
    hub.add(index, NAME, "all")
    assert (await mirror.manifest(NAME, "all")).body == index.manifest
    hub.faults.add(Fault(kind="manifest", reference=child.digest, body=other.manifest, times=None))
    assert (await mirror.manifest(NAME, child.digest)).status == 502
    assert not mirror.stored.has(child.digest)


@pytest.mark.parametrize(
    "lie",
    [
        Fault(kind="manifest", method="HEAD", content_length=7, times=None),
        Fault(kind="manifest", method="HEAD", content_length=70_000, times=None),
        Fault(
            kind="manifest", method="HEAD", headers={"Content-Type": media.OCI_INDEX}, times=None
        ),
    ],
    ids=["shorter", "longer", "another type"],
)
async def test_a_head_that_lies_changes_nothing_of_what_is_here(
    hub: Hub, run: Run, image: Image, lie: Fault
) -> None:
    """A length that is not the body's would begin the next answer within this one."""
    hub.faults.add(lie)
    async with run(tag_ttl=0) as mirror:
        for method in ("GET", "GET", "HEAD"):
            got = await mirror.manifest(NAME, "latest", method)
            assert got.headers["Content-Length"] == str(image.size)
            assert got.headers["Content-Type"] == image.media_type
            assert got.body == (image.manifest if method == "GET" else b"")
    async with run(tag_ttl=600) as mirror:
        got = await mirror.manifest(NAME, "latest")
        assert (got.body, got.headers["Content-Length"]) == (image.manifest, str(image.size))


async def test_the_same_bytes_have_one_type(hub: Hub, mirror: Mirror) -> None:
    """A push of the bytes under another type elsewhere does not change their type here."""
    digest = push(hub, BODY)
    assert (await mirror.manifest(NAME, digest)).headers["Content-Type"] == media.OCI_MANIFEST
    hub.faults.add(Fault(kind="manifest", headers={"Content-Type": media.OCI_INDEX}, times=None))
    got = await mirror.manifest("library/other", digest)
    assert got.status != 200 or got.headers["Content-Type"] == media.OCI_MANIFEST
    assert (await mirror.manifest(NAME, digest)).headers["Content-Type"] == media.OCI_MANIFEST


async def test_a_web_page_in_place_of_anything_is_not_kept(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    for kind, path in (("manifest", f"manifests/{image.digest}"), ("tags", "tags/list")):
        hub.faults.add(Fault.page(kind, times=None))  # type: ignore[arg-type]
        got = await mirror.ask(f"/v2/{NAME}/{path}")
        assert (got.status, json.loads(got.body)["errors"][0]["code"]) == (502, "UNAVAILABLE")
    assert not mirror.folder.blobs()


@pytest.mark.parametrize("told", [10, 100_000])
async def test_no_more_is_sent_of_a_blob_than_its_answer_was_said_to_have(
    hub: Hub, run: Run, image: Image, told: int
) -> None:
    """Bytes behind an answer's length are the next answer on a shared connection."""
    hub.faults.add(Fault(kind="blob", method="HEAD", content_length=told, times=None))
    hub.faults.add(Fault(kind="blob", method="GET", chunked=True, times=None))
    async with run(max_size=1) as mirror:  # no room for anything
        reader, writer = await asyncio.open_connection(*mirror.daemon.address)
        path = f"/v2/{NAME}/blobs/{image.layers[0].digest}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % told in head
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(10):
                assert len(await reader.read()) < told
        writer.close()
