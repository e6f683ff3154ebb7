"""Hostile requests: one answer to each request, about served content and no more."""

from __future__ import annotations

import asyncio
import json
import re
from urllib.parse import parse_qs, unquote

import pytest

from tests.attacks.steps import MOST, steps
from tests.standin import Hub, Image
from tests.support.mirror import Mirror, Run

NAME = "library/nginx"
DIGEST = "sha256:" + "a" * 64
MANIFEST = f"/v2/{NAME}/manifests/latest"
PING = b"GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def say(mirror: Mirror, *parts: bytes, within: float = 5) -> bytes:
    """Send bytes as they are, on one connection; returns all that comes until it is closed."""
    reader, writer = await asyncio.open_connection(*mirror.daemon.address)
    try:
        async with asyncio.timeout(within):
            writer.writelines(parts)
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


HIDDEN = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
SMUGGLED = {
    "length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "two lengths": b"Content-Length: 0\r\nContent-Length: 36\r\n\r\n" + HIDDEN,
    "two lengths in one": b"Content-Length: 0, 36\r\n\r\n" + HIDDEN,
    "a length with a sign": b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "a negative length": b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "a huge length": b"Content-Length: 99999999999999999999\r\n\r\n" + HIDDEN,
    "a blank before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "another coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked, then another": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a folded header": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a bare CR": b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + HIDDEN,
    "a NUL": b"X: a\0b\r\n\r\n" + HIDDEN,
    "bare line feeds": b"X: a\nTransfer-Encoding: chunked\n\n0\r\n\r\n" + HIDDEN,
}


@pytest.mark.parametrize("more", SMUGGLED.values(), ids=SMUGGLED)
async def test_no_request_is_smuggled_within_another(mirror: Mirror, more: bytes) -> None:
    answer = await say(mirror, b"GET /v2/ HTTP/1.1\r\nHost: a\r\n" + more)
    assert b"mirror_requests" not in answer
    assert answer.count(b"HTTP/1.1 ") <= 2
    assert b" 400 " in answer
    assert (await mirror.ask("/v2/")).status == 200


BODIES = {
    "a length": b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a length that never comes": b"Content-Length: 9\r\n\r\n",
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n24\r\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "a chunk of nonsense": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + HIDDEN,
    "a huge chunk": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + HIDDEN,
    "tiny chunks": b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nX\r\n" * 9_000,
    "another protocol": b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n" + HIDDEN,
}


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_request_that_announces_a_body_is_answered_and_is_the_last(
    mirror: Mirror, version: bytes, body: bytes
) -> None:
    """Where the next request would begin is not found out (RFC 9112, 6.1 and 6.3)."""
    head = b"GET /v2/ HTTP/" + version + b"\r\nHost: a\r\nConnection: keep-alive\r\n"
    answer = await say(mirror, head + body, PING)
    assert b"mirror_requests" not in answer
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 ") == 1
    assert answer.count(b"\r\nConnection: close\r\n") == 1


async def test_an_empty_body_ends_no_connection(mirror: Mirror) -> None:
    head = b"GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    assert (await say(mirror, head, PING)).count(b"HTTP/1.1 200 ") == 2


async def test_who_uploads_is_told_that_it_is_of_no_use(mirror: Mirror) -> None:
    """The answer arrives, although the body was not read."""
    head = b"PUT /v2/a/manifests/b HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n"
    assert b'"UNSUPPORTED"' in await say(mirror, head, b"x" * 60_000)


@pytest.mark.parametrize("count", [10, 30])
async def test_tiny_chunks_hold_up_nobody(mirror: Mirror, count: int) -> None:
    head = b"GET /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"1\r\nX\r\n" * 10_000
    with steps() as longest:
        answers = await asyncio.gather(*(say(mirror, head + chunks) for _ in range(count)))
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert longest.seconds < MOST, longest.what


async def send_on(writer: asyncio.StreamWriter) -> None:
    """Send for as long as it is taken."""
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def test_who_sends_on_and_on_is_not_read_any_more(mirror: Mirror) -> None:
    _, writer = await asyncio.open_connection(*mirror.daemon.address)
    writer.write(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n")
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionError):
            await send_on(writer)
    writer.close()


@pytest.mark.parametrize("count", [2, 3, 40, 1000])
async def test_requests_that_come_at_once_are_answered_in_their_order(
    mirror: Mirror, count: int
) -> None:
    asked = b"".join(b"GET /v2/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(count))
    answer = await say(mirror, asked[:31], asked[31:], PING)
    assert re.findall(rb"has no path '/v2/(\d+)'", answer) == [b"%d" % n for n in range(count)]


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"X-%d: y\r\n" % number for number in range(1000)),
        b"".join(b"X-%d: y\r\n" % number for number in range(200_000)),
        b"X: " + b"y" * 100_000 + b"\r\n",
        b"y" * 100_000 + b": x\r\n",
        b"X: y\r\n" * 100_000,
        b"".join(b"X-%d: " % number + b"y" * 16_000 + b"\r\n" for number in range(6)),
    ],
    ids=["1000", "200000", "a long one", "a long name", "the same again", "six long ones"],
)
async def test_headers_are_bounded_in_number_and_length(mirror: Mirror, head: bytes) -> None:
    answer = await say(mirror, b"GET /v2/ HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n")
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert (await mirror.ask("/v2/")).status == 200


@pytest.mark.parametrize(
    "path", ["/v2/" + "a/" * 50_000, "/" + "a" * 100_000, "/v2/?" + "a" * 100_000]
)
async def test_a_path_of_a_hundred_thousand_characters_is_refused(
    hub: Hub, mirror: Mirror, path: str
) -> None:
    answer = await say(mirror, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert hub.requests == []


async def test_one_that_dribbles_its_headers_is_let_go(run: Run) -> None:
    """A byte now and then does not keep a connection: slowloris."""
    async with run(idle_timeout=0.5) as mirror, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*mirror.daemon.address)
        writer.write(b"GET /v2/ HTTP/1.1\r\n")
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait([ended], timeout=0.1)
        assert b" 200 " not in (b"" if ended.exception() else ended.result())
        writer.close()


NAMESPACES = [
    "http://docker.io",
    "https://docker.io/",
    "docker.io/",
    "docker.io/library",
    "docker.io:443",
    "docker.io.",
    "user@docker.io",
    "user:secret@docker.io",
    "evil.example@docker.io",
    "docker.io@evil.example",
    "docker.io%23evil.example",
    "docker.io%00",
    "docker.io%0d%0aX-Injected:1",
    "%0ddocker.io",
    "docker.io%20",
    "..",
    "../docker.io",
    "127.0.0.1",
    "169.254.169.254",
    "[::1]:80",
    "localhost",
    "d%C3%B6cker.io",
    "doc%E2%84%AAer.io",  # a Kelvin sign, whose lower case is a k
    "%EF%BD%84ocker.io",
    "docker%E3%80%82io",
    "xn--docker-.io",
    "a" * 5000,
]


@pytest.mark.parametrize("namespace", NAMESPACES, ids=range(len(NAMESPACES)))
async def test_ns_is_looked_up_and_never_built_from(
    hub: Hub, mirror: Mirror, image: Image, namespace: str
) -> None:
    got = await mirror.ask(f"{MANIFEST}?ns={namespace}")
    assert (got.status, json.loads(got.body)["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
    assert "OCI-Namespace" not in got.headers
    assert "X-Injected" not in got.headers
    assert hub.requests == []


async def test_of_several_ns_the_first_counts_and_it_alone(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    assert (await mirror.ask(f"{MANIFEST}?ns=evil.example&ns=docker.io")).status == 404
    assert hub.requests == []
    got = await mirror.ask(f"{MANIFEST}?ns=docker.io&ns=evil.example")
    assert (got.status, got.headers["OCI-Namespace"]) == (200, "docker.io")


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"169.254.169.254",
        b"registry.example@evil.example",
        b"registry.example/../evil",
        b"registry.example:99999999",
        b"REGISTRY.EXAMPLE.:1",
        b"",
        b"\xff\xfe",
        b"a" * 10_000,
        b"localhost:5000#@evil",
    ],
)
async def test_a_host_header_chooses_among_what_is_configured_and_nothing_else(
    hub: Hub, run: Run, image: Image, host: bytes
) -> None:
    upstreams = {
        "docker.io": {"url": hub.url},
        "other.example": {"url": hub.url, "hosts": ["registry.example"]},
    }
    async with run(upstreams=upstreams) as mirror:
        lines = (
            b" HTTP/1.1\r\nHost: " + host + b"\r\nX-Forwarded-Host: evil\r\nConnection: close\r\n"
        )
        answer = await say(mirror, b"GET " + MANIFEST.encode() + lines + b"\r\n")
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
        own = hub.url.removeprefix("http://")
        assert {seen.headers["host"] for seen in hub.requests if seen.port == "registry"} <= {own}


@pytest.mark.parametrize(
    "path",
    [
        "/v2/library%2fnginx/manifests/latest",
        "/v2/library%252fnginx/manifests/latest",
        "/v2/library/nginx%2f..%2f..%2f/manifests/latest",
        "/v2/library/%2e%2e/nginx/manifests/latest",
        "/v2/library/../nginx/manifests/latest",
        "/v2/library/%252e%252e/manifests/latest",
        "/v2/./library/nginx/manifests/latest",
        "/../v2/library/nginx/manifests/latest",
        "/v2/..;/library/nginx/manifests/latest",
        "/v2/docker.io/../evil.example/a/manifests/latest",
        "/v2/docker.io%2flibrary/nginx/manifests/latest",
        "//docker.io//..//v2/library/nginx/manifests/latest",
        "/v2//evil.example//library/nginx/manifests/latest",
        "//evil.example/v2/library/nginx/manifests/latest",
        "/v2/library%2f/nginx/manifests/latest",
        "/v2/docker.io%00/library/nginx/manifests/latest",
        "/v2/user@docker.io/library/nginx/manifests/latest",
        "/v2/evil.example/library/nginx/manifests/latest",
        "/v2/127.0.0.1:80/library/nginx/manifests/latest",
        "/v2/evil.example:80/library/nginx/manifests/latest?ns=evil.example",
        "/evil.example/v2/library/nginx/manifests/latest",
        "/docker.io/v2/../v2/library/nginx/manifests/latest",
        f"/v2/{NAME}/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd",
        f"/v2/{NAME}/blobs/{DIGEST}/../../../../metrics",
        f"/v2/{NAME}/blobs/{DIGEST}%2f..",
        f"/v2/{NAME}/blobs/sha512:{'a' * 64}",
        f"/v2/{NAME}/blobs/sha256:{'a' * 63}",
        f"/v2/{NAME}/blobs/SHA256:{'a' * 64}",
        f"/v2/{NAME}/manifests/sha256:{'a' * 128}",
        f"/v2/{NAME}/manifests/latest%00",
        f"/v2/{NAME}/manifests/latest%0d%0aX-Injected:%201",
        f"/v2/{NAME}/manifests/..",
    ],
)
async def test_a_path_that_tricks_goes_nowhere(hub: Hub, mirror: Mirror, path: str) -> None:
    got = await mirror.ask(path)
    assert got.status in (400, 404)
    assert "X-Injected" not in got.headers
    assert hub.requests == []
    assert not mirror.folder.blobs()


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=" + ",".join(f"{n}-{n}" for n in range(1000)),
        "bytes=" + ",".join(["0-"] * 1000),
        "bytes=0-" + "9" * 5000,
        "bytes=-" + "9" * 5000,
        "bytes=" + "0" * 5000 + "-1",
        "bytes=9223372036854775807-9223372036854775808",
        "bytes=--1",
        "bytes=0-0\t,",
        "bytes" * 1000,
    ],
    ids=range(9),
)
async def test_a_range_that_tricks_is_one_answer_of_one_blob_at_most(
    mirror: Mirror, image: Image, wanted: str
) -> None:
    layer = image.layers[0]
    for _ in ("cold", "warm"):
        got = await mirror.blob(NAME, layer.digest, Range=wanted)
        assert got.status in (200, 400, 416)
        assert len(got.body) <= layer.size
        await mirror.settled()


@pytest.mark.parametrize("field", ["last", "next_page", "page.token", "x-y_z"])
@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("a%26n%3D1", 400),
        ("a%0d%0aX-Injected:1", 400),
        ("%3E%3B%20rel=%22next%22", 400),
        ("%ff%fe", 400),
        ("a%00", 400),
        ("%ed%a0%80", 400),
        ("a" * 4097, 400),
        ("..%2f..%2f", 200),
        ("a%2Bb%3D%3D", 200),
        ("a=b", 200),
    ],
)
async def test_the_mark_of_a_page_reaches_upstream_as_one_value_or_is_refused(
    hub: Hub, mirror: Mirror, image: Image, field: str, value: str, status: int
) -> None:
    for number in range(5):
        hub.tag(NAME, f"zz{number}", image)
    got = await mirror.ask(f"/v2/{NAME}/tags/list?n=2&{field}={value}")
    assert got.status == status
    assert "X-Injected" not in got.headers
    for seen in hub.journal.matching(kind="tags"):
        assert parse_qs(seen.query) == {"n": ["2"], field: [unquote(value)]}
    assert (hub.requests == []) == (status == 400)
    if link := got.headers.get("Link"):
        assert (link.count("<"), link.count(">"), link.count(";")) == (1, 1, 1)


@pytest.mark.parametrize(
    "query",
    [
        "a%0d=b",
        "%26=b",
        "a b=c",
        "%C3%A9=b",
        "=b",
        "a" * 65 + "=b",
        "&".join(f"f{number}=1" for number in range(9)),
    ],
)
@pytest.mark.parametrize("path", ["tags/list", f"referrers/{DIGEST}"])
async def test_what_no_page_can_be_named_by_is_refused(
    hub: Hub, mirror: Mirror, image: Image, path: str, query: str
) -> None:
    reader, writer = await asyncio.open_connection(*mirror.daemon.address)
    lines = f"GET /v2/{NAME}/{path}?{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    writer.write(lines.encode())
    assert b" 400 " in (await reader.read()).split(b"\r\n", 1)[0]
    writer.close()
    assert hub.requests == []
