"""Bodies in pieces of a byte delay no client, and many answers in the place of one are none."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest
from multidict import CIMultiDict
from yarl import URL

from mirror.oci import manifest, media
from mirror.oci.digest import Digest
from mirror.upstream.blob_body import BlobBody, BlobPart
from mirror.util.rate_limit import BandwidthLimit
from tests.attacks.raw import NAME, Raw, answer, speaking
from tests.attacks.steps import MOST, steps
from tests.support.mirror import Run

CHUNKED = b"Transfer-Encoding: chunked"
TYPE = b"Content-Type: " + media.OCI_MANIFEST.encode()
LONG = b'{"schemaVersion":2,"layers":[],"annotations":{"a":"%b"}}' % (b"x" * 200_000)


@pytest.fixture
async def raw() -> AsyncIterator[Raw]:
    """An upstream that says any bytes."""
    async with speaking(Raw()) as raw:
        yield raw


def chunked(body: bytes, size: int = 1) -> bytes:
    """Write a body in chunks of a size."""
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("count", [1, 5])
async def test_blobs_in_chunks_of_a_byte_are_served_and_hold_nobody_up(
    run: Run, raw: Raw, count: int
) -> None:
    bodies = [b"%d" % number * 300_000 for number in range(count)]
    digests = [str(Digest.of(body)) for body in bodies]
    for body, digest in zip(bodies, digests, strict=True):
        whole = answer(chunked(body), CHUNKED, length=False)
        raw.answers[f"GET /v2/{NAME}/blobs/{digest}"] = whole
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        with steps() as longest:
            got = await asyncio.gather(*(mirror.blob(NAME, digest) for digest in digests))
    assert [each.body for each in got] == bodies
    assert longest.seconds < MOST, longest.what


async def test_bodies_that_are_read_whole_may_come_in_chunks_of_a_byte(run: Run, raw: Raw) -> None:
    """Manifests, pages of tags and of referrers, and tokens."""
    digest = Digest.of(LONG)
    token = json.dumps({"token": "t", "padding": "x" * 50_000}).encode()
    tags = json.dumps({"name": NAME, "tags": [f"t{number}" for number in range(20_000)]}).encode()
    index = b'{"schemaVersion":2,"mediaType":"%b","manifests":[]%b}'
    page = index % (media.OCI_INDEX.encode(), b" " * 200_000)
    challenge = f'WWW-Authenticate: Bearer realm="{raw.url}/token"'.encode()
    refused = answer(b"", challenge, status=b"401 Unauthorized")

    def told(body: bytes, media_type: str) -> bytes:
        lines = (CHUNKED, b"Content-Type: " + media_type.encode())
        return answer(chunked(body), *lines, length=False)

    raw.answers[f"HEAD /v2/{NAME}/manifests/"] = refused
    raw.answers["/token"] = told(token, media.JSON)
    raw.answers["/manifests/"] = told(LONG, media.OCI_MANIFEST)
    raw.answers["/tags/list"] = told(tags, media.JSON)
    raw.answers["/referrers/"] = told(page, media.OCI_INDEX)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        with steps() as longest:
            assert (await mirror.manifest(NAME, "latest")).body == LONG
            assert len(json.loads((await mirror.ask(f"/v2/{NAME}/tags/list")).body)["tags"])
            assert (await mirror.ask(f"/v2/{NAME}/referrers/{digest}")).status == 200
    assert any(b"/token" in head for head in raw.heads)
    assert longest.seconds < MOST, longest.what


@pytest.mark.parametrize("size", [1024, 65_536])
async def test_text_in_chunks_of_an_honest_size_is_not_rationed(
    run: Run, raw: Raw, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Its lines end as chunks do, which costs no time."""
    monkeypatch.setattr("mirror.upstream.receiver._REST", 1e6)  # what is rationed comes never
    body = b"".join(b"line %d of a layer that is not packed\n" % each for each in range(100_000))
    digest = str(Digest.of(body))
    raw.answers[f"GET /v2/{NAME}/blobs/"] = answer(chunked(body, size), CHUNKED, length=False)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror, asyncio.timeout(10):
        assert (await mirror.blob(NAME, digest)).body == body


async def test_what_is_dense_behind_text_holds_the_loop_no_longer(run: Run, raw: Raw) -> None:
    """Slices have grown by then: one of them is dear, and the next is small again."""
    text = b"line of a layer that is not packed\n" * 100_000
    dense = b"x" * 200_000
    digest = str(Digest.of((text + dense) * 2))
    chunks = chunked(text, 65_536).removesuffix(b"0\r\n\r\n") + chunked(dense, 1)
    whole = chunks.removesuffix(b"0\r\n\r\n") + chunks
    raw.answers[f"GET /v2/{NAME}/blobs/"] = answer(whole, CHUNKED, length=False)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror, asyncio.timeout(30):
        with steps() as longest:
            assert len((await mirror.blob(NAME, digest)).body) == 2 * len(text + dense)
    assert longest.seconds < MOST, longest.what


@pytest.mark.parametrize("size", [2, 16, 100, 4095, 70_000])
@pytest.mark.parametrize("piece", [b"\n", b"\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x\ny"])
async def test_a_body_is_what_its_chunks_make_of_it(
    run: Run, raw: Raw, size: int, piece: bytes
) -> None:
    """With any content, cut for the parser in any way."""
    body = piece * (600_000 // len(piece))
    digest = str(Digest.of(body))
    raw.answers[f"GET /v2/{NAME}/blobs/"] = answer(chunked(body, size), CHUNKED, length=False)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        assert (await mirror.blob(NAME, digest)).body == body


@pytest.mark.parametrize(("early", "status"), [(2, 200), (32, 200), (33, 502), (50_000, 502)])
async def test_a_few_answers_may_come_before_the_real_one(
    run: Run, raw: Raw, early: int, status: int
) -> None:
    raw.answers["/manifests/"] = b"HTTP/1.1 103 Early Hints\r\n\r\n" * early + answer(LONG, TYPE)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        with steps() as longest:
            got = await mirror.manifest(NAME, Digest.of(LONG))
    assert got.status == status
    assert longest.seconds < MOST, longest.what


async def test_answers_that_nobody_asked_for_hold_nobody_up(run: Run, raw: Raw) -> None:
    """They end their connection, and no request gets them as its answer."""
    wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(LONG) + TYPE + b"\r\n\r\n" + LONG
    raw.answers["/manifests/"] = good + wrong * 50_000
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        with steps() as longest:
            for _ in range(2):
                assert (await mirror.manifest(NAME, Digest.of(LONG))).body == LONG
                assert (await mirror.manifest(NAME, "latest")).body == LONG
    assert longest.seconds < MOST, longest.what


async def test_trailers_are_bounded_and_passed_over(run: Run, raw: Raw) -> None:
    body = b"x" * 1000
    digest = str(Digest.of(body))
    trailers = b"".join(b"X-%d: y\r\n" % number for number in range(60))
    for end, status in ((trailers, 200), (trailers * 2000, 502)):
        whole = chunked(body, 100)[:-2] + end + b"\r\n"
        raw.answers[f"GET /v2/{NAME}/blobs/"] = answer(whole, CHUNKED, length=False)
        async with run(upstreams={"docker.io": {"url": raw.url}}, resume_timeout=1) as mirror:
            with steps() as longest:
                got = await mirror.blob(NAME, digest)
        assert (got.status in (200, 502, 503), got.body == body) == (True, status == 200)
        assert longest.seconds < MOST, longest.what
        digest = str(Digest.of(body + b"x"))


class Packing:
    """A response with a body that is read in pieces of a quarter of a mebibyte."""

    def __init__(self, body: bytes) -> None:
        self.url = URL("http://upstream.example/")
        self.status = 200
        self.headers = CIMultiDict({"Content-Encoding": "gzip"})
        self.content = self
        self.pieces = [body[at : at + 262_144] for at in range(0, len(body), 262_144)]

    async def readchunk(self) -> tuple[bytes, bool]:
        """Return the next one at once."""
        return (self.pieces.pop(0) if self.pieces else b""), False


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (gzip.compress(b"") * 100_000, b""),
        (gzip.compress(b"x") * 50_000, b"x" * 50_000),
        (gzip.compress(b" " * 10_000_000), b" " * 10_000_000),
    ],
    ids=["empty ones", "short ones", "a bomb"],
)
async def test_what_is_packed_in_an_odd_way_holds_nobody_up(packed: bytes, plain: bytes) -> None:
    """However many gzips there are: none waits in memory for the end of the body."""
    response = cast("aiohttp.ClientResponse", Packing(packed))
    body = BlobBody(response, BlobPart(0, None), lambda _: None, BandwidthLimit(), unpack=True)
    got = bytearray()
    with steps() as longest:
        task = asyncio.create_task(body.read())
        while piece := await task:
            got += piece
            task = asyncio.create_task(body.read())
    assert got == plain
    assert longest.seconds < MOST, longest.what


def tables_for_nothing(size: int) -> bytes:
    """Make deflate blocks that each have tables of codes and no byte (RFC 1951, 3.2.7)."""
    lengths = "".join("100" if place in (2, 17) else "000" for place in range(18))
    zeros = "1" + "1111111" + "1" + "1101011"  # 138 and 118 codes that are not used
    block = "0" + "01" + "0000000000" + "0111" + lengths + zeros + "000"
    eight = int((8 * block)[::-1], 2).to_bytes(len(block), "little")
    return eight * (size // len(eight))


async def test_a_manifest_that_is_packed_to_be_slow_holds_nobody_up(run: Run, raw: Raw) -> None:
    slow = tables_for_nothing(manifest.MAX_SIZE - 200_000)
    head, rest = gzip.compress(LONG)[:10], gzip.compress(LONG)[10:]
    packed = answer(head + slow + rest, TYPE, b"Content-Encoding: gzip")
    raw.answers["/manifests/"] = packed
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        with steps() as longest:
            assert (await mirror.manifest(NAME, Digest.of(LONG))).body == LONG
    assert longest.seconds < MOST, longest.what
