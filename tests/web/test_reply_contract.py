"""A reply replaces aiohttp's own: a version of aiohttp that treats it otherwise fails here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger, AbstractStreamWriter

from mirror.web.reply import InMemoryBody, Reply
from mirror.web.request_keys import REQUEST_ID

ORDER = ["prepare", "write_eof", "log", "keep_alive"]
REQUEST = b"GET / HTTP/1.1\r\nHost: mirror\r\n\r\n"
BODY = bytes(100_000)  # too large to be written with the head


class Recorded(Reply):
    """A reply that records the calls of aiohttp."""

    def __init__(self, calls: list[str], *, body: bytes = b"ok", last: bool = False) -> None:
        flow = InMemoryBody(body) if len(body) > 2 else body
        super().__init__(200, "X-Test: 1\r\n", length=len(body), body=flow, last=last)
        self.calls = calls

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Note the call."""
        self.calls.append("prepare")
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Note the call."""
        assert data == b""
        self.calls.append("write_eof")
        await super().write_eof()

    @property
    def keep_alive(self) -> bool | None:
        """Note the call."""
        self.calls.append("keep_alive")
        return super().keep_alive


class Broken(Recorded):
    """A reply with a client that leaves while the body is sent."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Note the call, and break off."""
        self.calls.append("write_eof")
        raise ConnectionResetError(data)


@dataclass
class Served:
    """A connection to aiohttp's server, and the server's log."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    calls: list[str] = field(default_factory=list)
    logged: list[web.StreamResponse] = field(default_factory=list)

    async def ask(self) -> tuple[bytes, bytes]:
        """Send a request; returns the head and the body of its answer."""
        self.writer.write(REQUEST)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        return head, await self.reader.readexactly(length)


@asynccontextmanager
async def serving(make: Callable[[list[str]], Reply]) -> AsyncIterator[Served]:
    """Serve one connection with aiohttp's own server, and replies that `make` makes."""
    calls: list[str] = []
    logged: list[web.StreamResponse] = []

    class Log(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            """Note the call."""
            assert request[REQUEST_ID]
            assert time >= 0
            calls.append("log")
            logged.append(response)

    async def handle(request: web.BaseRequest) -> Reply:
        request[REQUEST_ID] = "1"
        return make(calls)

    server = web.Server(handle, access_log=logging.getLogger(__name__), access_log_class=Log)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
        port = int(site.name.rpartition(":")[2])
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            yield Served(reader, writer, calls, logged)
            writer.close()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("body", [b"ok", BODY], ids=["at once", "streamed"])
async def test_a_reply_is_prepared_written_logged_and_then_asked_for_more(
    body: bytes,
) -> None:
    head = b""
    async with serving(lambda calls: Recorded(calls, body=body)) as served:
        for _ in range(2):
            head, got = await served.ask()
            assert got == body
        served.writer.write_eof()
        assert await served.reader.read() == b""  # the connection has ended: all is called
        assert served.calls == 2 * ORDER, f"aiohttp {aiohttp.__version__}"
        assert all(isinstance(reply, Recorded) for reply in served.logged)
    # The head is the reply's, to the letter: aiohttp adds no header and no line.
    lines = head.decode().split("\r\n")
    assert lines[:3] == ["HTTP/1.1 200 OK", "X-Test: 1", f"Content-Length: {len(body)}"]
    assert [line.partition(":")[0] for line in lines[3:-2]] == ["Date", "Server", "X-Request-Id"]


async def test_the_last_reply_of_a_connection_ends_it() -> None:
    async with serving(lambda calls: Recorded(calls, last=True)) as served:
        head, body = await served.ask()
        assert b"Connection: close\r\n" in head
        assert body == b"ok"
        assert await served.reader.read() == b""
        assert served.calls == ORDER


async def test_a_broken_reply_is_logged_and_ends_its_connection() -> None:
    async with serving(lambda calls: Broken(calls, body=BODY)) as served:
        served.writer.write(REQUEST)
        assert (await served.reader.read()).endswith(b"\r\n\r\n")  # the head, and no more
        assert served.calls == ORDER[:3]
