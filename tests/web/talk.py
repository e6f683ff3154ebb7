"""A client that speaks HTTP by hand: its requests are bytes, in pieces of its choice."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.support.mirror import Mirror

WITHIN = 10.0  # seconds for an answer
_OWN = ("date", "x-request-id")  # headers of one answer alone


class Said(NamedTuple):
    """An answer, without the headers that no two answers share."""

    status: int
    headers: list[str]
    body: bytes
    request_id: str


class Talk:
    """One connection to a mirror."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def ask(self, head: bytes) -> Said:
        """Send a request in one piece; returns its answer."""
        self.writer.write(head)
        return await self.read(bodiless=head.startswith(b"HEAD"))

    async def read(self, *, bodiless: bool = False) -> Said:
        """Return the next answer."""
        async with asyncio.timeout(WITHIN):
            text = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
            fields = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
            status = int(first.split()[1])
            length = 0 if bodiless or status == 304 else int(fields["content-length"])
            body = await self._reader.readexactly(length)
        kept = [line for line in lines if line.partition(":")[0].lower() not in _OWN]
        return Said(status, kept, body, fields["x-request-id"])

    async def ended(self) -> bool:
        """Wait for the end of the connection; returns whether no byte came before."""
        async with asyncio.timeout(WITHIN):
            return await self._reader.read() == b""


@asynccontextmanager
async def talking(mirror: Mirror, tls: ssl.SSLContext | None = None) -> AsyncIterator[Talk]:
    """Open a connection."""
    address = mirror.daemon.address
    async with asyncio.timeout(WITHIN):
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
    try:
        yield Talk(reader, writer)
    finally:
        writer.close()


def head(path: str, method: str = "GET", **headers: str) -> bytes:
    """Return the bytes of a request as container engines send them, with more headers."""
    fields = {"Host": "mirror:5000", "User-Agent": "docker/27.1", "Accept": "application/json"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (fields | named).items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def manifest(reference: str, name: str = "library/nginx") -> str:
    """Return the path of a manifest."""
    return f"/v2/{name}/manifests/{reference}"


TAG = manifest("latest")


async def known(talk: Talk, request: bytes) -> None:
    """Have a request answered from memory by the parser: the next one is known."""
    for _ in range(2):
        assert (await talk.ask(request)).status == 200


async def instant(mirror: Mirror) -> int:
    """Return the number of instant answers so far."""
    line = "mirror_instant_answers_total "
    while True:
        text = (await mirror.ask("/metrics")).text
        return int(float(text.partition("\n" + line)[2].partition("\n")[0]))
