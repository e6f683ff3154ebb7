"""Following: a fetch's bytes sent to one client, at that client's own pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO, Protocol

from mirror.oci.ranges import Span

_LOOK = 1.0  # seconds between looks at whether a client is still there


class There(Protocol):
    """A client that waits for an answer."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""


class Sink(There, Protocol):
    """The destination of a body."""

    async def data(self, data: bytes | memoryview) -> None:
        """Send bytes."""

    async def file(self, file: IO[bytes], start: int, stop: int) -> None:
        """Send a file's bytes from `start` up to `stop`, without reading them if possible."""


class Followed(Protocol):
    """A fetch, as a follower sees it; see `Fetch`."""

    async def past(self, position: int) -> int:
        """Wait for bytes behind `position`; see `Progress.past`."""

    async def send(self, position: int, stop: int, sink: Sink) -> int:
        """Send visible bytes; see `Fetch.send`."""


async def follow(fetch: Followed, span: Span, sink: Sink) -> int:
    """Send the visible bytes of a fetch in `span`; returns the position where they ended.

    That is the span's end, or where the fetch took a detour. Raises RegistryError, and the errors
    of the sink when its client has gone.
    """
    position = span.start
    while position < span.stop:
        end = min(await fetch.past(position), span.stop)
        if end <= position:
            break
        position = await fetch.send(position, end, sink)
    return position


@asynccontextmanager
async def while_there(client: There) -> AsyncIterator[None]:
    """Run a block for as long as its client is there; raises ConnectionResetError.

    The end of a connection shows when bytes are written to it. A silent upstream gives none to
    write, nor does a blob of unknown size.
    """
    loop = asyncio.get_running_loop()
    there = asyncio.timeout(None)
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        if client.gone:
            there.reschedule(loop.time())
        else:
            timer = loop.call_later(_LOOK, look)

    timer = loop.call_later(_LOOK, look)
    try:
        async with there:
            yield
    except TimeoutError:
        if not there.expired():
            raise
        raise ConnectionResetError("the client has gone") from None
    finally:
        timer.cancel()
