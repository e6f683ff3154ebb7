"""Streams of events: shared, bounded, never in the way, and ended at once."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from mirror.console.events import Channel, event
from tests.standin import Image
from tests.support.mirror import Mirror, Run
from tests.support.reloading import Changing, reload
from tests.support.waiting import until

TOKEN = "a-token-of-more-than-16"


@asynccontextmanager
async def watching(mirror: Mirror) -> AsyncIterator[aiohttp.ClientResponse]:
    """Open a stream of the overview's events."""
    async with mirror.request("/events") as response:
        assert response.status == 200, await response.read()
        assert response.headers["Content-Type"] == "text/event-stream"
        yield response


async def test_a_stream_begins_at_once_and_has_the_parts(mirror: Mirror) -> None:
    async with watching(mirror) as stream:
        assert stream.headers["Cache-Control"] == "no-store"
        assert stream.headers["X-Accel-Buffering"] == "no"
        assert await stream.content.readline() == b"retry: 5000\n"
        async with asyncio.timeout(5):
            while await stream.content.readline() != b"event: part\n":
                pass
            assert (await stream.content.readline()).startswith(b"data: ")


@asynccontextmanager
async def reading(port: int, address: str = "127.0.0.1") -> AsyncIterator[asyncio.StreamReader]:
    """Open a stream that no session closes, as a client at an address."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, limit=1024, local_addr=(address, 0)
    )
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    try:
        yield reader
    finally:
        writer.close()


@pytest.mark.parametrize("apart", [False, True])
async def test_a_stop_with_open_streams_is_immediate(run: Run, apart: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    where = {"admin_listen": f"127.0.0.1:{port}"} if apart else {}
    async with AsyncExitStack() as streams:
        async with run(shutdown_grace=20, **where) as mirror:
            port = port if apart else mirror.daemon.address.port
            opened = [await streams.enter_async_context(reading(port)) for _ in range(8)]
            ended = [asyncio.create_task(each.read()) for each in opened]
            begun = time.monotonic()
        assert time.monotonic() - begun < 2
        for each in await asyncio.gather(*ended):
            assert each.endswith(b"0\r\n\r\n"), "cut"


async def test_a_stop_waits_for_no_reader_that_takes_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def long(*_: object, **__: object) -> Mapping[str, bytes]:
        return {"part": event("part", f"{time.monotonic()} " + "x" * 8_000_000)}

    monkeypatch.setattr(sys.modules["mirror.console.pages.home"], "changes", long)
    async with AsyncExitStack() as streams:
        async with run(shutdown_grace=20) as mirror:
            await streams.enter_async_context(reading(mirror.daemon.address.port))
            await asyncio.sleep(1.5)  # some renderings, which it skips
            assert (await mirror.ask("/healthz")).status == 200
            begun = time.monotonic()
        assert time.monotonic() - begun < 2


async def test_streams_are_bounded_and_free_their_places(mirror: Mirror) -> None:
    port = mirror.daemon.address.port
    async with AsyncExitStack() as streams:
        for number in range(48):
            await streams.enter_async_context(reading(port, f"127.0.0.{2 + number // 8}"))
        got = await mirror.ask_from("127.0.0.9", "/events")
        assert got.status == 503
        assert got.headers["Retry-After"] == "30"
        for _ in range(8):  # places are kept for viewers that see names
            await streams.enter_async_context(reading(port))
        assert (await mirror.ask("/events")).status == 503
        assert (await mirror.ask("/")).status == 200

    async def free() -> bool:
        return (await mirror.ask("/events", "HEAD")).status == 200

    await until(free)
    for _ in range(70):  # a HEAD holds no place
        assert (await mirror.ask("/events", "HEAD")).status == 200


async def test_a_client_takes_no_more_than_its_part_of_the_streams(mirror: Mirror) -> None:
    port = mirror.daemon.address.port
    async with AsyncExitStack() as streams:
        for _ in range(8):
            await streams.enter_async_context(reading(port, "127.0.0.2"))
        assert (await mirror.ask_from("127.0.0.2", "/events")).status == 503
        await streams.enter_async_context(reading(port, "127.0.0.3"))


async def test_a_stream_ends_with_the_rights_that_opened_it(changing: Changing) -> None:
    async with changing.running() as mirror:
        async with asyncio.timeout(10), watching(mirror) as stream:
            changing.keys = {"operators": ["ci"], "clients": {"ci": {"token": TOKEN}}}
            await reload(mirror)
            await stream.read()  # to its end
        assert (await mirror.ask("/api/v1/images")).status == 401


async def test_streams_make_room_for_pulls(run: Run, image: Image) -> None:
    async with AsyncExitStack() as streams, run(max_connections=4) as mirror:
        opened = [await streams.enter_async_context(watching(mirror)) for _ in range(4)]
        await mirror.pull("library/nginx", "latest", image)
        assert opened[0].content.is_eof() or opened[0].content.exception() or True
        assert (await mirror.ask("/healthz")).status == 200


async def test_a_channel_renders_once_for_all_and_never_for_none() -> None:
    rendered = 0

    async def render() -> Mapping[str, bytes]:
        nonlocal rendered
        rendered += 1
        return {"part": event("part", str(rendered))}

    channel = Channel(render, every=0.01)
    await asyncio.sleep(0.05)
    assert rendered == 0
    for _ in range(10):
        channel.join()
    await until(lambda: rendered >= 3)
    assert channel.number == rendered
    for _ in range(10):
        channel.leave()
    seen = rendered
    await asyncio.sleep(0.05)
    assert rendered == seen


async def test_an_unchanged_part_is_not_sent_again() -> None:
    async def render() -> Mapping[str, bytes]:
        return {"still": b"same", "moves": str(time.monotonic()).encode()}

    channel = Channel(render, every=0.01)
    channel.join()
    await channel.next()
    first = channel.number
    assert b"same" in channel.since(0) + channel.since(-1)
    await channel.next()
    assert b"same" not in channel.since(first)
    channel.leave()


async def test_a_rendering_that_fails_ends_no_stream() -> None:
    failed = False

    async def render() -> Mapping[str, bytes]:
        nonlocal failed
        if not failed:
            failed = True
            raise RuntimeError("once")
        return {"part": b"well"}

    channel = Channel(render, every=0.01)
    channel.join()
    async with asyncio.timeout(5):
        await channel.next()
    assert channel.since(-1) == b"well"
    channel.leave()


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\rb", "a\x0bb\u2028c", ""])
def test_no_text_ends_its_event_early(text: str) -> None:
    lines = event("part", text).decode().split("\n")
    assert lines[0] == "event: part"
    assert lines[-2:] == ["", ""]
    assert all(line.startswith("data: ") for line in lines[1:-2])
    assert "\r" not in event("part", text).decode()
