"""Odd blobs: empty, under odd headers, or stored as a manifest; the digest decides."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import dataclass, field, replace

import pytest

from mirror.upstream.gzip_body import GzipBody
from tests.attacks.raw import answer
from tests.standin import Blob, Fault, Hub, Image, make_image
from tests.support.mirror import Mirror, Run

REPOSITORY = "library/odd"
EMPTY = Blob.of(b"")
BODY = b"0123456789abcdef" * 5_000


def digest_of(body: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of a body."""
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"


# The empty blob


@pytest.fixture(params=[True, False], ids=["elsewhere", "here"])
def empty(hub: Hub, request: pytest.FixtureRequest) -> Blob:
    """The empty blob, which the hub has in two repositories."""
    hub.terms.redirect = request.param
    for name in (REPOSITORY, "library/other"):
        hub.repositories.make(name).blobs[EMPTY.digest] = EMPTY
    return EMPTY


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_blob_of_no_bytes_is_served_and_kept(
    hub: Hub, run: Run, empty: Blob, chunked: bool
) -> None:
    if chunked:
        hub.faults.add(Fault(kind="blob", method="GET", chunked=True, times=None))
    async with run() as mirror:
        for method in ("HEAD", "GET", "HEAD", "GET"):
            got = await mirror.blob(REPOSITORY, empty.digest, method)
            assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")
            await mirror.settled()
        assert (await mirror.blob(REPOSITORY, empty.digest)).cache == "hit"
        await no_range_of(mirror, empty)
        assert (await mirror.blob("library/other", empty.digest)).status == 200
    asked = len(hub.requests)
    async with run() as mirror:
        for name in (REPOSITORY, "library/other"):
            got = await mirror.blob(name, empty.digest)
            assert (got.status, got.body, got.cache) == (200, b"", "hit")
        await no_range_of(mirror, empty)
    assert len(hub.requests) == asked


async def no_range_of(mirror: Mirror, empty: Blob) -> None:
    """Check that no range of the empty blob can be satisfied."""
    for wanted in ("0-", "0-0", "-5"):
        got = await mirror.blob(REPOSITORY, empty.digest, Range=f"bytes={wanted}")
        assert (got.status, got.headers["Content-Range"]) == (416, "bytes */0")


async def test_an_image_with_an_empty_config_is_pulled(hub: Hub, mirror: Mirror) -> None:
    hub.repositories.make(REPOSITORY).blobs[EMPTY.digest] = EMPTY
    got = await asyncio.gather(*(mirror.blob(REPOSITORY, EMPTY.digest) for _ in range(8)))
    assert {(each.status, each.body) for each in got} == {(200, b"")}


async def test_a_partial_of_no_bytes_is_gone_on_with(hub: Hub, run: Run, image: Image) -> None:
    layer = image.layers[0]
    hub.repositories.make("library/nginx").blobs[EMPTY.digest] = EMPTY
    hub.add(make_image(70), "library/other", "latest")
    async with run() as mirror:
        pass
    for digest in (layer.digest, EMPTY.digest):
        mirror.folder.partial(digest).write_bytes(b"")
    async with run() as mirror:
        assert (await mirror.blob("library/nginx", layer.digest)).body == layer.read()
        assert (await mirror.blob("library/nginx", EMPTY.digest)).status == 200
        assert (await mirror.blob("library/other", EMPTY.digest)).status == 404


async def test_no_bytes_in_the_place_of_a_blob_are_not_kept(
    hub: Hub, run: Run, image: Image
) -> None:
    layer = image.layers[0]
    hub.faults.add(Fault(kind="blob", method="GET", short_at=0, times=2))
    async with run(resume_timeout=0.5) as mirror:
        assert (await mirror.blob("library/nginx", layer.digest)).status == 502
        assert (await mirror.blob("library/nginx", layer.digest)).body == layer.read()


async def test_an_empty_blob_comes_when_the_disk_is_full(hub: Hub, run: Run) -> None:
    hub.repositories.make(REPOSITORY).blobs[EMPTY.digest] = EMPTY
    async with run() as mirror:
        mirror.stored.max_size = 0
        got = await mirror.blob(REPOSITORY, EMPTY.digest)
        assert (got.status, got.body) == (200, b"")


# Headers


@dataclass
class Odd:
    """An upstream with one blob. GETs of it get these answers in turn, and then always the last."""

    answers: list[bytes]
    head: bytes = b""
    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if "/blobs/" in head:
            self.asked.append(head)
        if head.startswith("GET") and "/blobs/" in head:
            writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        else:
            writer.write(self.head or answer(b"", status=b"404 Not Found"))
        await writer.drain()
        writer.close()


async def got_through(run: Run, odd: Odd, body: bytes) -> list[tuple[int, bytes]]:
    """Ask for a blob twice, and once more after a restart."""
    server = await asyncio.start_server(odd.serve, "127.0.0.1", 0)
    odd.url = "http://{}:{}".format(*server.sockets[0].getsockname())
    got: list[tuple[int, bytes]] = []
    try:
        for times in (2, 1):
            async with run(upstreams={"docker.io": {"url": odd.url}}, resume_timeout=1) as mirror:
                for _ in range(times):
                    each = await mirror.blob(REPOSITORY, digest_of(body))
                    got.append((each.status, each.body))
                    await mirror.settled()
    finally:
        server.close()
    return got


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Encoding:"],
        [b"Content-Encoding: aws-chunked"],
        [b"Content-Encoding: UTF-8"],
        [b"Content-Encoding: none"],
        [b"Content-Encoding: identity, aws-chunked"],
        [b"Content-Encoding: gzip"],
        [b"Content-Type: text/html"],
        [b"Content-Type: text/html; charset=utf-8", b"Content-Encoding: br"],
        [b"Content-Type: octets"],
        [b"Content-Type:"],
        [b"Content-Range: bytes 5-9/100"],
        [b"Docker-Content-Digest: sha256:0000"],
        [b"Accept-Ranges: none", b"ETag: x"],
        [],
    ],
)
@pytest.mark.parametrize("body", [BODY, gzip.compress(BODY)], ids=["plain", "packed"])
async def test_bytes_that_the_digest_proves_are_right_whatever_the_headers_say(
    run: Run, lines: list[bytes], body: bytes
) -> None:
    odd = Odd([answer(body, *lines)], head=answer(b"", *lines))
    assert await got_through(run, odd, body) == [(200, body)] * 3
    assert len(odd.asked) == 1


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (b"206 Partial Content", [b"Content-Range: bytes 0-%d/%d" % (len(BODY) - 1, len(BODY))]),
        (b"206 Partial Content", [b"Content-Range: bytes 0-%d/*" % (len(BODY) - 1)]),
        (b"206 Partial Content", [b"Content-Range: whole"]),
        (b"206 Partial Content", []),
        (b"203 Non-Authoritative Information", []),
    ],
)
@pytest.mark.parametrize("length", [True, False])
async def test_the_whole_is_taken_under_any_status_of_success(
    run: Run, status: bytes, lines: list[bytes], length: bool
) -> None:
    odd = Odd([answer(BODY, *lines, status=status, length=length)])
    assert await got_through(run, odd, BODY) == [(200, BODY)] * 3


async def test_a_first_part_that_was_not_asked_for_is_gone_on_with(run: Run) -> None:
    half, size = len(BODY) // 2, len(BODY)
    part = b"206 Partial Content"
    odd = Odd(
        [
            answer(BODY[:half], b"Content-Range: bytes 0-%d/%d" % (half - 1, size), status=part),
            answer(
                BODY[half:], b"Content-Range: bytes %d-%d/%d" % (half, size - 1, size), status=part
            ),
        ]
    )
    assert await got_through(run, odd, BODY) == [(200, BODY)] * 3


async def test_bytes_that_the_digest_does_not_prove_are_given_to_no_client(run: Run) -> None:
    small = b"some small blob"
    odd = Odd([answer(gzip.compress(small + b"!"), b"Content-Encoding: gzip")])
    assert [status for status, _ in await got_through(run, odd, small)] == [502] * 3


async def test_a_length_that_lies_once_costs_no_small_blob(run: Run) -> None:
    small = b"some small blob"
    odd = Odd([answer(small, b"Content-Length: 100", length=False), answer(small)])
    assert await got_through(run, odd, small) == [(200, small)] * 3


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_an_address_that_is_refused_once_is_asked_for_anew(
    hub: Hub, mirror: Mirror, image: Image, status: int
) -> None:
    hub.faults.add(Fault(kind="blob", port="cdn", status=status))
    assert (await mirror.blob("library/nginx", image.config.digest)).body == image.config.read()
    assert hub.count(kind="blob", port="registry", status=307) == 2


# Manifests


async def test_a_kept_manifest_is_no_blob(hub: Hub, run: Run, image: Image) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        for method in ("HEAD", "GET", "HEAD", "GET"):
            got = await mirror.blob("library/nginx", image.digest, method)
            assert got.status == 404
        assert (await mirror.manifest("library/nginx", image.digest)).body == image.manifest
    async with run() as mirror:
        assert (await mirror.blob("library/nginx", image.digest)).status == 404
        assert (await mirror.manifest("library/nginx", image.digest)).body == image.manifest


async def test_a_manifest_that_upstream_has_as_a_blob_too_is_given_as_that(
    hub: Hub, run: Run, image: Image
) -> None:
    both = Blob.of(image.manifest)
    hub.repositories.make("library/nginx").blobs[both.digest] = both
    hub.repositories.make("library/other").blobs[both.digest] = both
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        for name in ("library/nginx", "library/other"):
            for method in ("HEAD", "GET", "GET", "HEAD"):
                got = await mirror.blob(name, both.digest, method)
                assert got.status == 200
                assert method == "HEAD" or got.body == image.manifest
                await mirror.settled()
            assert (await mirror.blob(name, both.digest)).cache == "hit"
        assert (await mirror.manifest("library/nginx", both.digest)).body == image.manifest
        assert (await mirror.manifest("library/other", both.digest)).status == 404


async def test_an_image_whose_blob_is_pulled_first_stays_a_manifest(
    hub: Hub, mirror: Mirror
) -> None:
    image = make_image(71)
    hub.add(image, REPOSITORY, "latest")
    both = Blob.of(image.manifest)
    hub.repositories.make(REPOSITORY).blobs[both.digest] = both
    assert (await mirror.blob(REPOSITORY, both.digest)).body == image.manifest
    await mirror.settled()
    got = await mirror.manifest(REPOSITORY, both.digest)
    assert (got.body, got.headers["Content-Type"]) == (image.manifest, image.media_type)
    assert (await mirror.blob(REPOSITORY, both.digest)).body == image.manifest


# Blobs that a host compresses unasked


@pytest.mark.parametrize("told", ["gzip", "X-GZIP"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [10, 300_000, 3_000_000])
async def test_a_blob_that_a_host_compresses_unasked_is_unpacked(
    hub: Hub, run: Run, told: str, size: int, chunked: bool
) -> None:
    blob = Blob.of((BODY * 40)[:size])
    for name in (REPOSITORY, "library/other"):
        hub.repositories.make(name).blobs[blob.digest] = blob
    packed = Fault(kind="blob", body=gzip.compress, headers={"Content-Encoding": told}, times=None)
    hub.faults.add(replace(packed, chunked=chunked))
    async with run() as mirror:
        head = await mirror.blob(REPOSITORY, blob.digest, "HEAD")
        assert (head.status, head.headers["Content-Length"]) == (200, str(size))
        for name in (REPOSITORY, "library/other"):
            got = await mirror.blob(name, blob.digest)
            assert (got.status, got.body) == (200, blob.read())
            assert "Content-Encoding" not in got.headers
            await mirror.settled()


async def test_a_blob_that_is_a_gzip_itself_is_taken_as_it_is_sent(hub: Hub, run: Run) -> None:
    blob = Blob.of(gzip.compress(BODY * 40))
    hub.repositories.make(REPOSITORY).blobs[blob.digest] = blob
    hub.faults.add(Fault(kind="blob", headers={"Content-Encoding": "gzip"}, times=None))
    async with run() as mirror:
        assert (await mirror.blob(REPOSITORY, blob.digest)).body == blob.read()


def test_what_unpacks_to_too_much_takes_no_memory() -> None:
    packed = GzipBody()
    packed.feed(gzip.compress(bytes(15_000_000)))
    size = 0
    while piece := packed.piece():
        assert len(piece) <= 1024 * 1024
        size += len(piece)
    assert (size, packed.whole) == (15_000_000, True)


async def test_a_blob_that_swells_beyond_measure_is_not_unpacked_to_its_end(
    hub: Hub, mirror: Mirror
) -> None:
    image = make_image(71, [40_000])
    hub.add(image, REPOSITORY, "latest")
    bomb = gzip.compress(b"\0" * 200_000_000, 1)
    packed = Fault(kind="blob", headers={"Content-Encoding": "gzip"}, body=bomb, times=None)
    hub.faults.add(packed)
    got = await mirror.blob(REPOSITORY, image.layers[0].digest)
    assert got.status == 502
    await mirror.settled()
    folder = mirror.folder.path
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 10_000_000
