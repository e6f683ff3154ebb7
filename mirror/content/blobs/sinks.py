"""Sinks of bodies: where bytes are sent to, for as long as the client is connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from mirror.storage.blobs.protocol import BlobReader

_CHECK = 1.0  # seconds between checks of whether a client is still connected


class ClientConnection(Protocol):
    """The connection of a client that waits for an answer."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""


class Sink(ClientConnection, Protocol):
    """The destination of a body."""

    async def data(self, data: bytes | memoryview) -> None:
        """Send bytes."""

    async def blob(self, reader: BlobReader, start: int, stop: int) -> None:
        """Send a blob's bytes from `start` up to `stop`, without reading them if possible."""


@asynccontextmanager
async def while_connected(client: ClientConnection) -> AsyncIterator[None]:
    """Run a block for as long as its client is connected; raises ConnectionResetError.

    The end of a connection shows when bytes are written to it. A silent upstream gives none to
    write, nor does a blob of unknown size.
    """
    loop = asyncio.get_running_loop()
    connected = asyncio.timeout(None)
    timer: asyncio.TimerHandle

    def check() -> None:
        nonlocal timer
        if client.gone:
            connected.reschedule(loop.time())
        else:
            timer = loop.call_later(_CHECK, check)

    timer = loop.call_later(_CHECK, check)
    try:
        async with connected:
            yield
    except TimeoutError:
        if not connected.expired():
            raise
        raise ConnectionResetError("the client has gone") from None
    finally:
        timer.cancel()
