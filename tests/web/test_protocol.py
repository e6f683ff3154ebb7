"""A connection's protocol, where aiohttp's own is not enough."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from mirror.util.request_id import RequestIds
from mirror.web.connections.client_connections import ClientConnections
from mirror.web.connections.http_protocol import Listener
from mirror.web.connections.request_body import body_of


async def test_a_reply_that_ends_as_the_patience_with_it_does_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Both end in one turn of the loop, at a stop: the reply first, then the patience."""
    loop = asyncio.get_running_loop()
    begun, finish = asyncio.Event(), loop.create_future()

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        begun.set()
        await finish
        return web.Response()

    listener = Listener(answer, ClientConnections(10), RequestIds())
    async with await loop.create_server(listener, "127.0.0.1", 0) as server, asyncio.timeout(10):
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await begun.wait()
        ending = asyncio.create_task(listener.shutdown(0.05))
        for _ in range(5):  # turns in which the shutdown begins to wait
            await asyncio.sleep(0)
        loop.call_later(0.01, finish.set_result, None)
        time.sleep(0.2)  # noqa: ASYNC251 - both are late when the loop goes on
        await ending
        writer.close()
    assert not caplog.records


@pytest.mark.parametrize("length", ["Content-Length: 1", "Transfer-Encoding: chunked"])
async def test_what_follows_a_body_is_read_no_further_than_a_little(length: str) -> None:
    finish = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        body = body_of(request)
        assert body is not None
        await body.read()
        await finish.wait()
        return web.Response()

    async def flood(writer: asyncio.StreamWriter) -> None:
        for _ in range(512):
            writer.write(bytes(512 * 1024))
            await writer.drain()

    listener = Listener(answer, ClientConnections(10), RequestIds())
    loop = asyncio.get_running_loop()
    async with await loop.create_server(listener, "127.0.0.1", 0) as server, asyncio.timeout(20):
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        body = "0\r\n\r\n" if "chunked" in length else "x"
        writer.write(f"POST / HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n{body}".encode())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await flood(writer)
        writer.transport.abort()
        finish.set()
        await listener.shutdown(1)
