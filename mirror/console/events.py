"""Server-sent events: one rendering for all readers, and only while there are any."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from mirror.console.problem import Problem, busy
from mirror.console.reply import NO_STORE, head_lines
from mirror.identity.address import one_client
from mirror.web.console import EventReply
from mirror.web.sending import ClientStream

_log = logging.getLogger(__name__)

_MOST = 64  # streams
_RESERVED = 16  # of them, for viewers that see names
_MOST_OF_A_CLIENT = 8
_LASTS = 300.0  # seconds of a stream
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
    """The answer of a page that is a stream of a channel's events, to a viewer at an address.

    A viewer that sees names is an operator, or on this machine.
    """

    channel: Channel
    address: str
    names: bool
    media_type: ClassVar[str] = "text/event-stream"


class EventStreams:
    """The open streams: at most 64, all of which end at once when the mirror stops.

    A client has at most eight, and a quarter of all is for viewers that see names. A stream ends
    after some minutes and after a reload, so that its reader asks again with the rights of then.
    """

    def __init__(self) -> None:
        self._open: set[ClientStream] = set()
        self._promised = Counter[str]()  # by client
        self._stop = asyncio.Event()
        self._again = asyncio.Event()
        self._left = asyncio.Event()

    def __len__(self) -> int:
        return self._promised.total()

    def __repr__(self) -> str:
        return f"<EventStreams: {len(self)} of {_MOST}>"

    def renew(self) -> None:
        """End all streams; their readers come again, with the rights that they have now."""
        self._again.set()
        self._again = asyncio.Event()

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
        client = one_client(stream.address)
        most = _MOST if stream.names else _MOST - _RESERVED
        if len(self) >= most or self._promised[client] >= _MOST_OF_A_CLIENT:
            raise busy("too many pages are watching: reload the page to see more", _AGAIN)
        if self._stop.is_set():
            raise Problem(503, "the mirror is stopping")
        head = head_lines(stream.media_type, NO_STORE, {"X-Accel-Buffering": "no"})
        self._promised[client] += 1
        body = _Body(self, stream.channel, client)
        return EventReply(200, head, length=None, body=body, last=True)

    async def send(self, client: ClientStream, channel: Channel) -> None:
        """Send events until the reader leaves or the mirror stops."""
        channel.join()
        self._open.add(client)
        ends = [asyncio.create_task(each.wait()) for each in (self._stop, self._again)]
        try:
            await client.data(_BEGIN)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LASTS):
                    await self._follow(client, channel, ends)
        finally:
            for end in ends:
                end.cancel()
            self._open.discard(client)
            self._left.set()
            channel.leave()

    async def _follow(
        self, client: ClientStream, channel: Channel, ends: Sequence[asyncio.Task[Any]]
    ) -> None:
        number, spoke = -1, time.monotonic()
        while not any(end.done() for end in ends) and not client.gone:
            data = channel.since(number)
            if not data and time.monotonic() - spoke > _BEAT:
                data = _COMMENT
            if data and not client.untaken:  # a slow reader skips
                number, spoke = channel.number, time.monotonic()
                await client.data(data)
            turns: set[asyncio.Future[Any]] = {*ends, channel.next()}
            await asyncio.wait(turns, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)

    def close(self, client: str) -> None:
        """Stop counting a stream of a client."""
        self._promised[client] -= 1
        if not self._promised[client]:
            del self._promised[client]


class _Body:
    """The body of a stream of events."""

    def __init__(self, streams: EventStreams, channel: Channel, client: str) -> None:
        self._streams = streams
        self._channel = channel
        self._of = client
        self._closed = False

    async def send(self, client: ClientStream) -> None:
        """Send events; raises ConnectionError if the reader leaves."""
        await self._streams.send(client, self._channel)

    def close(self) -> None:
        """Let go of it, once."""
        if not self._closed:
            self._closed = True
            self._streams.close(self._of)
