"""Server-sent events: one rendering for all readers, and only while there are any."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from mirror.console.problem import Problem, busy
from mirror.console.reply import NO_STORE, head_lines
from mirror.web.console import EventReply
from mirror.web.sending import ClientStream

_log = logging.getLogger(__name__)

_MOST = 64  # streams
_AGAIN = 30  # seconds, for a stream beyond it
_BEAT = 15.0  # seconds between comments, so that a front does not take the stream for dead
_LOOK = 3.0  # seconds between two looks whether the reader has left
_EVERY = 1.0  # seconds between two renderings
_BEGIN = b"retry: 5000\n\n"
_COMMENT = b":\n\n"
_LAST = 0.2  # seconds for the last bytes of all streams


def event(name: str, data: str) -> bytes:
    """Return one event (HTML, "Server-sent events"); its data may have several lines."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n".encode("utf-8", "backslashreplace")


class Channel:
    """Events that many readers see: rendered once for all of them, and not at all for none.

    A rendering has the latest event of each kind, by a key. A reader gets the events that have
    changed since its last ones: a reader that is slower than the renderings skips some.
    """

    def __init__(
        self,
        render: Callable[[], Awaitable[Mapping[str, bytes]]],
        every: float = _EVERY,
    ) -> None:
        self._render = render
        self._every = every
        self._readers = 0
        self._task: asyncio.Task[None] | None = None
        self._turn: asyncio.Future[None] | None = None
        self._events: dict[str, tuple[int, bytes]] = {}
        self.number = 0  # of the last rendering with a change

    def __repr__(self) -> str:
        return f"<Channel: {self._readers} readers>"

    def since(self, number: int) -> bytes:
        """Return the events that have changed since the rendering of a number."""
        return b"".join(event for changed, event in self._events.values() if changed > number)

    def join(self) -> None:
        """Count a reader; the first one begins the renderings."""
        self._readers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="events")

    def leave(self) -> None:
        """Stop counting a reader; the last one ends the renderings."""
        self._readers -= 1
        if not self._readers and self._task is not None:
            self._task.cancel()
            self._task, self._events = None, {}

    def next(self) -> asyncio.Future[None]:
        """Return the future of the next rendering."""
        if self._turn is None:
            self._turn = asyncio.get_running_loop().create_future()
        return self._turn

    async def _run(self) -> None:
        while True:
            try:
                self._publish(await self._render())
            except Exception:  # noqa: BLE001 - logged: the next rendering may succeed
                _log.exception("the events could not be rendered")
            await asyncio.sleep(self._every)

    def _publish(self, events: Mapping[str, bytes]) -> None:
        now = self.number + 1
        changed = {
            key: (now, event)
            for key, event in events.items()
            if key not in self._events or self._events[key][1] != event
        }
        if not changed:
            return
        self._events |= changed
        self.number = now
        if self._turn is not None:
            self._turn.set_result(None)
        self._turn = None


class Channels:
    """The channels, made when they are first needed: one for viewers that see the same."""

    def __init__(self) -> None:
        self._channels: dict[Hashable, Channel] = {}

    def __repr__(self) -> str:
        return f"<Channels: {len(self._channels)}>"

    def of(self, key: Hashable, render: Callable[[], Awaitable[Mapping[str, bytes]]]) -> Channel:
        """Return the channel of a key; there are as many as the pages have keys."""
        if key not in self._channels:
            self._channels[key] = Channel(render)
        return self._channels[key]


@dataclass(frozen=True, slots=True)
class EventStream:
    """The answer of a page that is a stream of a channel's events."""

    channel: Channel
    media_type: ClassVar[str] = "text/event-stream"


class EventStreams:
    """The open streams: at most 64, all of which end at once when the mirror stops."""

    def __init__(self) -> None:
        self._open: set[ClientStream] = set()
        self._promised = 0
        self._stop = asyncio.Event()
        self._left = asyncio.Event()

    def __len__(self) -> int:
        return self._promised

    def __repr__(self) -> str:
        return f"<EventStreams: {len(self)} of {_MOST}>"

    async def stop(self) -> None:
        """End all streams, at once; a stream that its reader does not take is cut."""
        self._stop.set()
        for client in self._open:
            if client.untaken:
                client.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST):
                while self._open:
                    self._left.clear()
                    await self._left.wait()

    def reply(self, stream: EventStream) -> EventReply:
        """Return the reply to send; raises Problem beyond the bound, or if the mirror stops."""
        if self._promised >= _MOST:
            raise busy(f"more than {_MOST} pages are watching: reload the page to see more", _AGAIN)
        if self._stop.is_set():
            raise Problem(503, "the mirror is stopping")
        head = head_lines(stream.media_type, NO_STORE, {"X-Accel-Buffering": "no"})
        self._promised += 1
        return EventReply(200, head, length=None, body=_Body(self, stream.channel), last=True)

    async def send(self, client: ClientStream, channel: Channel) -> None:
        """Send events until the reader leaves or the mirror stops."""
        channel.join()
        self._open.add(client)
        stop = asyncio.create_task(self._stop.wait())
        try:
            await client.data(_BEGIN)
            await self._follow(client, channel, stop)
        finally:
            stop.cancel()
            self._open.discard(client)
            self._left.set()
            channel.leave()

    async def _follow(
        self, client: ClientStream, channel: Channel, stop: asyncio.Task[bool]
    ) -> None:
        number, spoke = -1, time.monotonic()
        while not stop.done() and not client.gone:
            data = channel.since(number)
            if not data and time.monotonic() - spoke > _BEAT:
                data = _COMMENT
            if data and not client.untaken:  # a slow reader skips
                number, spoke = channel.number, time.monotonic()
                await client.data(data)
            turns: set[asyncio.Future[Any]] = {stop, channel.next()}
            await asyncio.wait(turns, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)

    def close(self) -> None:
        """Stop counting a stream."""
        self._promised -= 1


class _Body:
    """The body of a stream of events."""

    def __init__(self, streams: EventStreams, channel: Channel) -> None:
        self._streams = streams
        self._channel = channel
        self._closed = False

    async def send(self, client: ClientStream) -> None:
        """Send events; raises ConnectionError if the reader leaves."""
        await self._streams.send(client, self._channel)

    def close(self) -> None:
        """Let go of it, once."""
        if not self._closed:
            self._closed = True
            self._streams.close()
