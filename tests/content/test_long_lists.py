"""Lists of tags of any length reach a client whole, or end with an error, in little memory."""

from __future__ import annotations

import asyncio
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp
import pytest
from yarl import URL

from mirror.content.listings.tag_lists import TagLists
from mirror.oci.errors import UpstreamUnavailable
from mirror.oci.names import Repository
from mirror.oci.paging import Paging
from mirror.upstream.transport import Timeouts, Transport
from tests.attacks.raw import NAME, Raw, answer, speaking
from tests.attacks.test_addresses import registry
from tests.support.mirror import Mirror, Run

Speaks = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MIB = 1024 * 1024
LIST = f"/v2/{NAME}/tags/list"
JSON = b"Content-Type: application/json"
CHUNKED = b"Transfer-Encoding: chunked"
LONG = [f"v{number}-of-a-build-of-main" for number in range(250_000)]
BODY = json.dumps({"name": NAME, "tags": LONG}).encode()
GOOGLES = {
    "child": ["a", "b"],
    "manifest": {
        f"sha256:{number:064x}": {
            "imageSizeBytes": "12345",
            "layerId": "",
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "tag": [f"v{number}"],
            "timeCreatedMs": "1700000000000",
            "timeUploadedMs": "1700000000000",
        }
        for number in range(22_000)
    },
    "name": "project/app",
    "tags": [f"v{number}" for number in range(22_000)],
}


@pytest.fixture
async def raw() -> AsyncIterator[Raw]:
    """An upstream that sends any bytes."""
    async with speaking(Raw()) as raw:
        yield raw


@pytest.fixture
async def before(raw: Raw, run: Run) -> AsyncIterator[Mirror]:
    """A mirror of the raw upstream."""
    async with run(upstreams={"docker.io": {"url": raw.url}}, silence_timeout=2) as mirror:
        yield mirror


@asynccontextmanager
async def elsewhere(raw: Raw, speak: Speaks) -> AsyncIterator[None]:
    """Let upstream redirect to a server that sends its bytes in its own time."""
    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    location = "Location: http://{}:{}/".format(*server.sockets[0].getsockname()).encode()
    raw.answers["/tags/"] = answer(b"", location, status=b"307 Go")
    async with server:
        yield


def test_the_lists_of_these_tests_are_long() -> None:
    assert len(BODY) > 6 * MIB
    assert len(json.dumps(GOOGLES)) > 6_000_000


@pytest.mark.parametrize("form", ["a length", "chunks", "to the end"])
async def test_a_long_list_is_whole(raw: Raw, before: Mirror, form: str) -> None:
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    raw.answers["/tags/"] = {
        "a length": answer(BODY, JSON),
        "chunks": answer(chunks, JSON, CHUNKED, length=False),
        "to the end": answer(BODY, JSON, length=False),
    }[form]
    for _ in range(2):
        got = await before.ask(LIST)
        assert (got.status, got.headers["Content-Type"]) == (200, "application/json")
        assert json.loads(got.body) == {"name": NAME, "tags": LONG}
        assert "Content-Length" not in got.headers
        assert got.headers["Transfer-Encoding"] == "chunked"
    assert len(raw.heads) == 3  # the length of the list is found out once


async def test_googles_list_is_whole_with_what_its_clients_read_in_it(
    raw: Raw, before: Mirror
) -> None:
    raw.answers["/tags/"] = answer(json.dumps(GOOGLES).encode(), JSON)
    got = await before.ask(LIST)
    assert json.loads(got.body) == GOOGLES | {"name": NAME}


async def test_a_million_tags_take_no_memory(raw: Raw, before: Mirror) -> None:
    async def million(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b'{"name":"x","tags":["a"', JSON, length=False))
        with suppress(ConnectionError):
            for first in range(0, 1_000_000, 1000):
                tags = (b',"v%07d-of-a-build-of-main"' % n for n in range(first, first + 1000))
                writer.write(b"".join(tags))
                await writer.drain()
        writer.write(b"]}")
        writer.close()

    async with elsewhere(raw, million):
        received, last = 0, b""
        tracemalloc.start()
        try:
            async with before.request(LIST) as response:
                async for chunk in response.content.iter_any():
                    received += len(chunk)
                    last = (last + chunk)[-40:]
            assert tracemalloc.get_traced_memory()[1] < 16 * MIB
        finally:
            tracemalloc.stop()
    assert received > 28 * MIB
    assert last.endswith(b'"v0999999-of-a-build-of-main"]}')


async def test_a_client_that_does_not_read_stops_upstream(raw: Raw, before: Mirror) -> None:
    begun = b'{"name":"x","tags":["a"'
    more = b',"abcdefgh"' * 5000
    raw.answers["/tags/"] = answer(
        b"%x\r\n%b\r\n" % (len(begun), begun), JSON, CHUNKED, length=False
    )
    raw.endless = b"%x\r\n%b\r\n" % (len(more), more)
    async with before.request(LIST) as response:
        assert response.status == 200
        sent = -1
        async with asyncio.timeout(30):
            while sent != raw.sent:
                sent = raw.sent
                await asyncio.sleep(0.5)
        assert raw.sent < 40 * MIB  # the buffers of the sockets
        assert (await before.ask("/readyz")).status == 200


async def say(mirror: Mirror, request: str) -> bytes:
    """Send a request as it is; returns all bytes until the mirror closes."""
    reader, writer = await asyncio.open_connection(*mirror.daemon.address)
    try:
        writer.write(request.encode())
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


async def test_a_client_of_http_1_0_gets_it_up_to_the_end(raw: Raw, before: Mirror) -> None:
    raw.answers["/tags/"] = answer(BODY, JSON)
    for keep in ("", "Connection: keep-alive\r\n"):
        head, _, body = (await say(before, f"GET {LIST} HTTP/1.0\r\n{keep}\r\n")).partition(
            b"\r\n\r\n"
        )
        assert json.loads(body)["tags"] == LONG
        assert b"Connection: close" in head
        assert b"Transfer-Encoding" not in head


async def test_another_request_follows_on_the_connection(raw: Raw, before: Mirror) -> None:
    raw.answers["/tags/"] = answer(BODY, JSON)
    lines = f"GET {LIST} HTTP/1.1\r\nHost: a\r\n\r\n"
    closing = "GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    told = await say(before, lines + closing)
    assert told.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert told.endswith(b"\r\n\r\n{}")


async def test_a_head_of_it_has_no_body(raw: Raw, before: Mirror) -> None:
    raw.answers["/tags/"] = answer(BODY, JSON)
    lines = f"HEAD {LIST} HTTP/1.1\r\nHost: a\r\n\r\n"
    closing = "GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    head, second, body = (await say(before, lines + closing)).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length" not in head
    assert (second.startswith(b"HTTP/1.1 200 OK\r\n"), body) == (True, b"{}")


BROKEN = {
    "cut": answer(BODY[: -MIB // 2], JSON, b"Content-Length: %d" % len(BODY), length=False),
    "short": answer(BODY[: -MIB // 2], JSON),
    "nonsense": answer(BODY.replace(b'"v200000-', b'oops"v200000-'), JSON),
    "another document behind": answer(BODY + b'{"tags":[]}', JSON),
    "twice": answer(BODY[:-1] + b',"tags":["other"]}', JSON),
    "not UTF-8": answer(BODY[:-1] + b',"x":"\xff"}', JSON),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_what_breaks_off_is_seen_to_be_broken(raw: Raw, before: Mirror, body: bytes) -> None:
    raw.answers["/tags/"] = body
    async with before.request(LIST) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    closing = f"GET {LIST} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert not (await said(before, closing)).endswith(b"0\r\n\r\n")
    assert b"]}" not in (await said(before, f"GET {LIST} HTTP/1.0\r\n\r\n"))[-2:]


async def said(mirror: Mirror, request: str) -> bytes:
    """Send a request; returns the answer, or nothing if the connection is reset."""
    try:
        return await say(mirror, request)
    except ConnectionResetError:
        return b""


async def test_an_upstream_that_falls_silent_within_breaks_it_off(raw: Raw, before: Mirror) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(BODY[:-100], JSON, b"Content-Length: %d" % len(BODY), length=False))
        await reader.read()
        writer.close()

    async with elsewhere(raw, silent), before.request(LIST) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_list_that_comes_slowly_is_whole(raw: Raw, before: Mirror) -> None:
    """The list takes longer than the time that an answer may be silent, and streams meanwhile."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"name":"a","tags":["a","b","c","d","e","f"]}'
        writer.write(answer(b"", JSON, b"Content-Length: %d" % len(body), length=False))
        for at in range(0, len(body), 8):
            await asyncio.sleep(0.5)
            writer.write(body[at : at + 8])
        writer.close()

    async with elsewhere(raw, drip):
        assert json.loads((await before.ask(LIST)).body)["tags"] == list("abcdef")


async def stalled(mirror: Mirror) -> socket.socket:
    """Ask for a long list, and read only its beginning."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, tuple(mirror.daemon.address))
    await loop.sock_sendall(client, f"GET {LIST} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    await loop.sock_recv(client, 1)
    return client


async def test_a_slow_reader_of_long_lists_keeps_none_from_other_clients(
    raw: Raw, run: Run
) -> None:
    raw.answers["/tags/"] = answer(BODY, JSON)
    settings = {"upstreams": {"docker.io": {"url": raw.url}}, "answer_timeout": 2}
    async with run(**settings) as mirror, AsyncExitStack() as stack:
        for each in asyncio.as_completed([stalled(mirror) for _ in range(40)]):
            with suppress(TimeoutError):
                stack.enter_context(await each)
        async with asyncio.timeout(20):
            got = await mirror.ask_from("127.0.0.2", LIST)
        assert (got.status, json.loads(got.body).get("tags")) == (200, LONG)


async def test_no_more_long_lists_are_sent_at_once_than_memory_is_for(raw: Raw) -> None:
    raw.answers["/tags/"] = answer(b'{"name":"a","tags":["a"]}', JSON, length=False)
    repository = Repository.parse("docker.io", NAME)
    async with Transport(URL(raw.url), Timeouts(answer_timeout=0.5)) as wire:
        lists = TagLists({"docker.io": registry(wire, URL(raw.url))}, streams=1)
        first = await lists.stream(repository, Paging(), "10.0.0.1")
        with pytest.raises(UpstreamUnavailable) as refused:
            await lists.stream(repository, Paging(), "10.0.0.1")
        assert refused.value.retry_after
        first.close()
        second = await lists.stream(repository, Paging(), "10.0.0.1")
        second.close()
