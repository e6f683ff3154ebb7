"""A client that has left waits for nothing, and nothing goes on for ever in its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.attacks.raw import Raw, answer, speaking
from tests.standin import Hub
from tests.support.mirror import Mirror, Run
from tests.support.waiting import until

DIGEST = "sha256:" + "c" * 64
CHUNKED = (b"Transfer-Encoding: chunked", b"Content-Type: application/octet-stream")
PIECE = b"10000\r\n" + b"x" * 65_536 + b"\r\n"


@pytest.fixture
async def raw() -> AsyncIterator[Raw]:
    """An upstream with blobs that tell no size and have no end."""
    async with speaking(Raw(endless=PIECE)) as raw:
        raw.answers["GET /v2/a/b/blobs/"] = answer(b"", *CHUNKED, length=False)
        yield raw


@asynccontextmanager
async def asking(mirror: Mirror, method: str, path: str, more: bytes = b"") -> AsyncIterator[None]:
    """Ask for something, with `more` behind the head, and leave."""
    head = f"{method} /v2/bad.example/a/b/{path} HTTP/1.1\r\nHost: m\r\n"
    if more:
        head += f"Content-Length: {len(more)}\r\n"
    _, writer = await asyncio.open_connection(*mirror.daemon.address)
    writer.write(f"{head}\r\n".encode() + more)
    await writer.drain()
    try:
        yield
    finally:
        writer.close()


@pytest.mark.parametrize("more", [b"", b"x" * 200_000], ids=["plain", "with a body"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("room", ["room", "no room"])
async def test_a_blob_without_an_end_ends_when_its_client_leaves(
    hub: Hub, run: Run, raw: Raw, method: str, more: bytes, room: str
) -> None:
    """Its size is waited for, so that nothing is sent by which the client would be missed."""
    size = {"room": 1024, "no room": 20}[room] * 1024**2
    upstreams = {"docker.io": {"url": hub.url}, "bad.example": {"url": raw.url}}
    async with run(upstreams=upstreams, abandon_after=0.2, max_size=size) as mirror:
        async with asking(mirror, method, f"blobs/{DIGEST}", more):
            await until(lambda: raw.sent > 40 * 1024**2)
            assert raw.open == 1
        await until(lambda: raw.open == 0 and not len(mirror.daemon.fetches))
        assert mirror.stored.promised == 0


async def test_a_list_that_drips_ends_when_its_client_leaves(hub: Hub, run: Run) -> None:
    upstreams = {"docker.io": {"url": hub.url}}
    async with speaking(Raw(endless=b"1\r\n \r\n", pause=0.2)) as raw:
        raw.answers["/tags/list"] = answer(b"", CHUNKED[0], length=False)
        upstreams["bad.example"] = {"url": raw.url}
        async with run(upstreams=upstreams, silence_timeout=1) as mirror:
            async with asking(mirror, "GET", "tags/list"):
                await until(lambda: len(raw.heads) == 2)  # it is too slow to be kept
            await until(lambda: raw.open == 0)
