"""Hostile and broken requests are refused with a clear document, and reach no other part."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.standin import Hub, Image, make_image
from tests.support.mirror import Mirror

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/Library/nginx/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/library//..//nginx/manifests/latest", 400, "NAME_INVALID"),
        ("/v2//manifests/latest", 400, "NAME_INVALID"),
        ("/v2/a_-b/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/" + "a" * 256 + "/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/" + "a/" * 2000 + "a/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/library/nginx%0a/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/library%2Fnginx/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/../../etc/passwd/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/library/..%2f..%2fetc/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/library/%2e%2e/nginx/blobs/" + DIGEST, 400, "NAME_INVALID"),
        ("/v2/a%00b/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/a%FFb/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/a\\b/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/library/nginx/manifests/.INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN"),
        ("/v2/library/nginx/manifests/" + "a" * 129, 404, "MANIFEST_UNKNOWN"),
        ("/v2/library/nginx/manifests/lat%20est", 404, "MANIFEST_UNKNOWN"),
        ("/v2/library/nginx/manifests/latest%0a", 404, "MANIFEST_UNKNOWN"),
        ("/v2/library/nginx/manifests/sha256:totallywrong", 400, "DIGEST_INVALID"),
        ("/v2/library/nginx/manifests/sha256:" + "A" * 64, 400, "DIGEST_INVALID"),
        ("/v2/library/nginx/manifests/md5:" + "a" * 32, 400, "DIGEST_INVALID"),
        ("/v2/library/nginx/blobs/sha256:..", 400, "DIGEST_INVALID"),
        ("/v2/library/nginx/blobs/latest", 400, "DIGEST_INVALID"),
        ("/v2/library/nginx/blobs/" + DIGEST + "%0a", 400, "DIGEST_INVALID"),
        ("/v2/library/nginx/referrers/latest", 400, "DIGEST_INVALID"),
        ("/v2/library/nginx/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/library/nginx/tags/list?n=many", 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/library/nginx/tags/list?n=" + "9" * 400, 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/library/nginx/tags/list?ns=169.254.169.254", 404, "NAME_UNKNOWN"),
        ("/v2/library/nginx/manifests/latest?ns=http://evil/", 404, "NAME_UNKNOWN"),
        ("/v2/library/nginx/tags", 404, "UNSUPPORTED"),
        ("/v2/library/nginx", 404, "UNSUPPORTED"),
        ("/v2/_catalog/", 404, "UNSUPPORTED"),
        ("/v2/_catalog?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/_catalog?ns=169.254.169.254", 404, "NAME_UNKNOWN"),
        ("/v1/search", 404, "UNSUPPORTED"),
        ("/other", 404, "UNSUPPORTED"),
    ],
)
async def test_what_breaks_the_grammar_goes_no_further(
    hub: Hub, mirror: Mirror, path: str, status: int, code: str
) -> None:
    for method in ("GET", "HEAD"):
        got = await mirror.ask(path, method)
        assert got.status == status
        assert got.headers["Content-Type"] == "application/json"
        assert "WWW-Authenticate" not in got.headers
        assert "Cache-Status" in got.headers
        if method == "GET":
            [error] = json.loads(got.body)["errors"]
            assert error["code"] == code
            assert error["message"]
    assert hub.requests == []
    assert not mirror.folder.blobs()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/library/nginx/blobs/uploads/"),
        ("PUT", "/v2/library/nginx/manifests/latest"),
        ("PATCH", "/v2/library/nginx/blobs/uploads/1"),
        ("DELETE", "/v2/library/nginx/manifests/" + DIGEST),
        ("DELETE", "/v2/library/nginx/blobs/" + DIGEST),
        ("OPTIONS", "/v2/"),
    ],
)
async def test_push_and_delete_are_not_supported(
    hub: Hub, mirror: Mirror, method: str, path: str
) -> None:
    got = await mirror.ask(path, method)
    assert (got.status, got.headers["Allow"]) == (405, "GET, HEAD")
    assert json.loads(got.body)["errors"][0]["code"] == "UNSUPPORTED"
    assert hub.requests == []


async def test_the_api_version_is_told_to_every_client(mirror: Mirror) -> None:
    for path in ("/v2/", "/v2"):
        for method in ("GET", "HEAD"):
            got = await mirror.ask(path, method)
            assert got.status == 200
            assert got.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
            assert got.headers["Content-Length"] == "2"
            assert got.body == (b"{}" if method == "GET" else b"")


async def test_several_accept_lines_are_no_obstacle(mirror: Mirror, image: Image) -> None:
    lines = (
        "GET /v2/library/nginx/manifests/latest HTTP/1.1\r\nHost: mirror\r\n"
        "Accept: application/vnd.oci.image.index.v1+json\r\n"
        f"Accept: {image.media_type}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    answer = await _raw(mirror, lines.encode())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(image.manifest)


async def test_repositories_may_be_named_like_parts_of_the_api(hub: Hub, mirror: Mirror) -> None:
    image = make_image(21)
    for name in ("blobs/manifests/tags", "team/referrers", "a/blobs/b"):
        hub.add(image, name, "latest")
        assert (await mirror.manifest(name, "latest")).body == image.manifest


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a plain port
        b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET /v2/\xc3\xa9/manifests/latest HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["tls", "long header", "long line", "nonsense", "not ascii", "smuggling"],
)
async def test_what_is_not_http_is_refused_and_harms_nobody(
    mirror: Mirror, request_bytes: bytes
) -> None:
    answer = await _raw(mirror, request_bytes)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(body)["errors"][0]["message"]
    assert (await mirror.ask("/v2/")).status == 200


async def test_http_1_0_and_connection_close_end_the_connection(
    mirror: Mirror, image: Image
) -> None:
    path = "/v2/library/nginx/manifests/latest"
    old = await _raw(mirror, f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert old.endswith(image.manifest)
    closing = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert b"Connection: close\r\n" in await _raw(mirror, closing.encode())


async def test_a_target_with_a_host_is_understood(mirror: Mirror, image: Image) -> None:
    ask = "GET http://mirror:5000{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = await _raw(mirror, ask.format("/v2/nginx/manifests/latest").encode())
    assert answer.endswith(image.manifest)


async def test_pipelined_requests_are_answered_in_their_order(mirror: Mirror, image: Image) -> None:
    ask = "GET {} HTTP/1.1\r\nHost: a\r\n{}\r\n"
    requests = [
        ask.format("/v2/library/nginx/manifests/latest", ""),
        ask.format(f"/v2/library/nginx/blobs/{image.layers[1].digest}", ""),
        ask.format("/v2/", "Connection: close\r\n"),
    ]
    answer = await _raw(mirror, "".join(requests).encode())
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answer.index(image.manifest) < answer.index(image.layers[1].read())
    assert answer.endswith(b"{}")


async def test_no_error_says_more_of_the_request_than_is_bearable(mirror: Mirror) -> None:
    got = await mirror.ask("/v2/" + "A" * 4000 + "/manifests/latest")
    assert len(got.body) < 500


async def _raw(mirror: Mirror, request: bytes) -> bytes:
    """Send bytes as they are; return the mirror's bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection(*mirror.daemon.address)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
