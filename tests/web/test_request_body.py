"""The body of a request is read as it arrives, however it is cut, and holds up no other task."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from mirror.web.connections.request_body import RequestBody, body_announced
from tests.support.turns import turns_of


def announced(headers: dict[str, str], version: HttpVersion = HttpVersion11) -> RequestBody:
    """Return the body that a POST with these headers announces."""
    found = CIMultiDictProxy(CIMultiDict(headers))
    message = RawRequestMessage(
        "POST", "/", version, found, (), True, None, False, "Transfer-Encoding" in headers, URL("/")
    )
    body = body_announced(message, None)
    assert body is not None
    return body


async def test_a_body_in_tiny_chunks_lets_other_tasks_run() -> None:
    body = announced({"Transfer-Encoding": "chunked"})
    body.feed(b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n")  # as much as arrives in one turn
    found, turns = await turns_of(body.read())
    assert found == b"a" * 50_000
    assert turns >= 100


async def test_content_of_a_body_that_breaks_off_is_read_before_the_error() -> None:
    body = announced({"Transfer-Encoding": "chunked"})
    body.feed(b"1\r\na\r\n" * 1000)
    body.end()
    found = b""
    while len(found) < 1000:
        found += await body.next()
    assert found == b"a" * 1000
    with pytest.raises(ConnectionResetError):
        await body.next()


class Client(asyncio.Transport):
    """The client's end of a connection: keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep bytes."""
        self.sent += data

    def is_closing(self) -> bool:
        """Never."""
        return False

    def resume_reading(self) -> None:
        """Nothing is read."""


async def test_only_a_client_of_http_1_1_is_told_to_continue() -> None:
    for version, told in ((HttpVersion11, b"HTTP/1.1 100 Continue\r\n\r\n"), (HttpVersion10, b"")):
        expecting = announced({"Content-Length": "2", "Expect": "100-continue"}, version)
        client = Client()
        body = RequestBody(expecting.message, 2, client)
        reading = asyncio.create_task(body.read())
        await asyncio.sleep(0)
        assert client.sent == told
        body.feed(b"ab")
        assert await reading == b"ab"
