"""A connection's protocol, where aiohttp's own is not enough."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from mirror.util.request_id import RequestIds
from mirror.web.connections.client_connections import ClientConnections
from mirror.web.connections.http_protocol import Listener


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
