"""A port: HTTP/1.1 by hand, so that a deviation can change an answer in any way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from multidict import CIMultiDict

HANGS_FOR = 2.0  # s, after which a silent upstream hangs up: more than the mirror's patience then
_CHUNK = 64 * 1024
_LARGE = 1_000_000  # bytes; a larger body may be paced, so that a client can leave midway
_PACE = 0.01  # s between chunks of a paced body
_REASON = "As It Is"


@dataclass(frozen=True)
class Asked:
    """A question: `path` is without the query."""

    method: str
    path: str
    query: str
    headers: CIMultiDict[str]


@dataclass
class Answer:
    """An answer. `stop` ends the body after so many bytes with a closed connection, or `stalls`."""

    status: int = 200
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes = b""
    framing: Literal["length", "chunked"] = "length"
    stop: int | None = None
    act: Literal["answer", "hang", "drop"] = "answer"
    stalls: bool = False
    sent: Callable[[int], None] = lambda _: None


class Port:
    """Answers on a free port of `host` by `reply`; if it is `paced`, large bodies come slowly."""

    def __init__(self, host: str, reply: Callable[[Asked], Answer], *, paced: bool = False) -> None:
        self._paced = paced
        self._host = host
        self._reply = reply
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, self._host, 0)
        self.url = "http://{}:{}".format(*self._server.sockets[0].getsockname())

    async def close(self) -> None:
        """Break every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one question; False if the connection is of no more use."""
        asked = _read(await reader.readuntil(b"\r\n\r\n"))
        answer = self._reply(asked)
        if answer.act != "answer":
            if answer.act == "hang":
                await asyncio.sleep(HANGS_FOR)
            return False
        empty = asked.method == "HEAD" or answer.status in (204, 304)
        writer.write(_head(answer))
        await writer.drain()
        return True if empty else await self._send(writer, answer)

    async def _send(self, writer: asyncio.StreamWriter, answer: Answer) -> bool:
        stop = len(answer.body) if answer.stop is None else answer.stop
        for start in range(0, stop, _CHUNK):
            data = answer.body[start : min(start + _CHUNK, stop)]
            chunked = answer.framing == "chunked"
            writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            await writer.drain()
            answer.sent(len(data))
            if self._paced and len(answer.body) > _LARGE:
                await asyncio.sleep(_PACE)
        if answer.stop is not None:
            await self._break_off(writer, stalls=answer.stalls)
            return False
        if answer.framing == "chunked":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return True

    async def _break_off(self, writer: asyncio.StreamWriter, *, stalls: bool) -> None:
        """Hang up, but let the sent bytes arrive."""
        if stalls:
            await asyncio.sleep(HANGS_FOR)
        writer.close()
        await writer.wait_closed()


def _read(head: bytes) -> Asked:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, _ = rest.rpartition(" ")
    path, _, query = target.partition("?")
    headers: CIMultiDict[str] = CIMultiDict()
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        headers.add(name, value.strip())
    return Asked(method, path, query, headers)


def _head(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {_REASON}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    if answer.framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
