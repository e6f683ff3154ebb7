"""The end of a listener: what was begun is sent within a grace, and what is left is hung up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from mirror.sizes import duration, human
from mirror.web.connections import Connections

_log = logging.getLogger(__name__)

# Seconds that aiohttp waits for replies once they are to be cut, and once more for their tasks
# (measured: a reply that waits for upstream takes both). Of 0 it makes "for ever".
CUT = 0.1


@dataclass(slots=True)
class Grace:
    """For how long, in seconds, replies may go on; `hurry` ends that, whenever it is set."""

    seconds: float
    hurry: asyncio.Event = field(default_factory=asyncio.Event)

    async def lends(self, connections: Connections) -> None:
        """Wait until no connection is open, for as long as the grace lasts."""
        waits = [asyncio.create_task(connections.gone()), asyncio.create_task(self.hurry.wait())]
        try:
            await asyncio.wait(waits, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


async def end(
    runner: web.ServerRunner,
    connections: Connections,
    grace: Grace,
    tell: Callable[[str], None] = _log.info,
) -> None:
    """Listen no more, give replies their grace to the last byte, and hang up on who is left.

    aiohttp waits for the replies, not for their last bytes: these wait for a slow client in
    memory, and the end of the process would be theirs. What happens is told in words.
    """
    for site in runner.sites:
        await site.stop()
    await asyncio.sleep(0)  # what came before is begun
    if runner.server is not None:
        runner.server.pre_shutdown()  # no connection outlives the reply that it waits for
    tell(f"stopping: {_what_has_how_long(connections.transfers(), grace.seconds)}")
    connections.close_idle()
    try:
        await grace.lends(connections)
    finally:
        await runner.cleanup()
        for client, unsent in connections.hang_up():
            tell(f"cut: {client}, which had not taken the last {human(unsent)} of its answer")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CUT):
            await connections.gone()


def _what_has_how_long(transfers: int, seconds: float) -> str:
    """Return how many transfers have how long, in words."""
    if not transfers:
        return "nothing is being sent"
    told = duration(seconds) if seconds >= 1 else f"{seconds:g} s"
    return f"{transfers} transfers have {told}" if transfers > 1 else f"1 transfer has {told}"
