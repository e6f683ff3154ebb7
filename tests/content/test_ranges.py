"""Ranges: a stored blob and a fetch that is under way give the same answers."""

from __future__ import annotations

import asyncio

import pytest

from mirror.oci import ranges
from mirror.oci.errors import RangeInvalid, RangeMalformed
from mirror.oci.ranges import Span
from tests.standin import Blob, Fault, Hub, make_image
from tests.support.mirror import Mirror

REPOSITORY = "library/big"
SIZES = {"small": 3_000, "large": 3_000_000}


@pytest.fixture(params=["small", "large"])
def layer(hub: Hub, request: pytest.FixtureRequest) -> Blob:
    """A layer that the mirror serves from memory, or another one from a file."""
    image = make_image(5, [SIZES[request.param]])
    hub.add(image, REPOSITORY, "latest")
    return image.layers[0]


@pytest.fixture(params=["cold", "warm"])
async def at(mirror: Mirror, layer: Blob, request: pytest.FixtureRequest) -> Mirror:
    """Run a mirror, with the layer stored or not."""
    if request.param == "warm":
        await mirror.blob(REPOSITORY, layer.digest)
        await mirror.blob(REPOSITORY, layer.digest)
    return mirror


@pytest.mark.parametrize("wanted", ["0-0", "0-99", "100-199", "1000-", "-500", "10-99999999"])
async def test_a_range_is_answered_with_just_its_bytes(
    at: Mirror, layer: Blob, wanted: str
) -> None:
    span = ranges.parse(f"bytes={wanted}", layer.size)
    assert span is not None
    got = await at.blob(REPOSITORY, layer.digest, Range=f"bytes={wanted}")
    assert got.status == 206
    assert got.body == layer.read()[span.start : span.stop]
    assert got.headers["Content-Range"] == f"bytes {span.start}-{span.stop - 1}/{layer.size}"
    assert got.headers["Content-Length"] == str(span.length)


async def test_a_range_outside_the_blob_is_416(at: Mirror, layer: Blob) -> None:
    for wanted in (f"{layer.size}-", "99999999-", "-0"):
        got = await at.blob(REPOSITORY, layer.digest, Range=f"bytes={wanted}")
        assert got.status == 416
        assert got.headers["Content-Range"] == f"bytes */{layer.size}"
        assert b"RANGE_INVALID" in got.body


@pytest.mark.parametrize("wanted", ["bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=1-2-3"])
async def test_a_malformed_range_is_refused(at: Mirror, layer: Blob, wanted: str) -> None:
    got = await at.blob(REPOSITORY, layer.digest, Range=wanted)
    assert got.status == 400
    assert b"RANGE_INVALID" in got.body


@pytest.mark.parametrize("wanted", ["lines=1-2", "bytes=0-1,5-6"])
async def test_another_unit_or_several_ranges_get_the_whole(
    at: Mirror, layer: Blob, wanted: str
) -> None:
    got = await at.blob(REPOSITORY, layer.digest, Range=wanted)
    assert (got.status, got.body) == (200, layer.read())


async def test_if_range_with_another_validator_gets_the_whole(at: Mirror, layer: Blob) -> None:
    same = {"Range": "bytes=0-9", "If_Range": f'"{layer.digest}"'}
    assert (await at.blob(REPOSITORY, layer.digest, **same)).status == 206
    other = {"Range": "bytes=0-9", "If_Range": '"sha256:other"'}
    assert (await at.blob(REPOSITORY, layer.digest, **other)).body == layer.read()
    date = {"Range": "bytes=0-9", "If_Range": "Mon, 23 Nov 2026 18:00:00 GMT"}
    assert (await at.blob(REPOSITORY, layer.digest, **date)).status == 200


async def test_if_none_match_saves_the_blob(at: Mirror, layer: Blob) -> None:
    got = await at.blob(REPOSITORY, layer.digest, If_None_Match=f'"{layer.digest}"')
    assert (got.status, got.body) == (304, b"")


async def test_a_range_of_a_blob_on_its_way_comes_when_its_bytes_do(
    hub: Hub, mirror: Mirror
) -> None:
    image = make_image(6, [3_000_000])
    hub.add(image, REPOSITORY, "slow")
    layer, go = image.layers[0], asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=1_000_000, until=go))
    early = await mirror.blob(REPOSITORY, layer.digest, Range="bytes=100-199")
    assert early.body == layer.read()[100:200]
    late = asyncio.create_task(mirror.blob(REPOSITORY, layer.digest, Range="bytes=2000000-"))
    go.set()
    assert (await late).body == layer.read()[2_000_000:]
    assert hub.bodies(layer.digest) == 1


async def test_a_range_far_ahead_is_passed_through_at_once(hub: Hub, mirror: Mirror) -> None:
    image = make_image(6, [40_000_000])
    hub.add(image, REPOSITORY, "huge")
    layer, go = image.layers[0], asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=1_000_000, until=go))
    async with asyncio.timeout(5):
        got = await mirror.blob(REPOSITORY, layer.digest, Range="bytes=39000000-39000999")
    assert got.body == layer.read()[39_000_000:39_001_000]
    go.set()


def test_a_span_never_leaves_its_blob() -> None:
    for header in ("bytes=0-", "bytes=-7", "bytes=3-3", "bytes=2-999", "bytes = 1-2"):
        span = ranges.parse(header, 10)
        assert span is not None
        assert 0 <= span.start < span.stop <= 10


def test_numbers_too_long_to_be_meant_are_refused() -> None:
    with pytest.raises(RangeMalformed):
        ranges.parse("bytes=" + "9" * 5000 + "-", 10)
    with pytest.raises(RangeInvalid):
        ranges.parse("bytes=0-", 0)


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        ("bytes 0-9/10", (Span(0, 10), 10)),
        ("bytes 5-9/10", (Span(5, 10), 10)),
        ("bytes 5-10/10", None),
        ("bytes 5-4/10", None),
        ("bytes */10", None),
        ("bytes 0-9/*", (Span(0, 10), None)),
        ("", None),
    ],
)
def test_a_content_range_is_believed_only_when_it_makes_sense(
    header: str, meant: tuple[Span, int | None] | None
) -> None:
    assert ranges.parse_content_range(header) == meant
