"""The shutdown of a listener: running replies have a grace period, and are then cut."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from mirror.util.units import duration, human
from mirror.web.connections.client_connections import ClientConnections

_log = logging.getLogger(__name__)

# Seconds that aiohttp waits for replies that are to be cut, and once more for their tasks
# (measured: a reply that waits for upstream takes both). It takes 0 for "for ever".
CUT = 0.1


@dataclass(slots=True)
class Grace:
    """The grace period of replies, in seconds; setting `hurry` ends it early."""

    shutdown_grace: float
    hurry: asyncio.Event = field(default_factory=asyncio.Event)

    async def lends(self, connections: ClientConnections) -> None:
        """Wait until no connection is open, or the grace period is over."""
        waits = [asyncio.create_task(connections.gone()), asyncio.create_task(self.hurry.wait())]
        try:
            await asyncio.wait(
                waits, timeout=self.shutdown_grace, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for wait in waits:
                wait.cancel()


async def end(
    runner: web.ServerRunner,
    connections: ClientConnections,
    grace: Grace,
    tell: Callable[[str], None] = _log.info,
) -> None:
    """Stop listening, let replies end within the grace period, and abort the rest.

    aiohttp waits for the replies, but not for their last bytes: those wait in memory for a slow
    client, and would be lost when the process ends. `tell` is called with a line on each step.
    """
    for site in runner.sites:
        await site.stop()
    await asyncio.sleep(0)  # begins the requests that have arrived
    if runner.server is not None:
        runner.server.pre_shutdown()  # connections end with their current reply
    tell(f"stopping: {_transfers_left(connections.transfers(), grace.shutdown_grace)}")
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


def _transfers_left(transfers: int, seconds: float) -> str:
    """Return the number of transfers and the time they have, as text."""
    if not transfers:
        return "nothing is being sent"
    left = duration(seconds) if seconds >= 1 else f"{seconds:g} s"
    return f"{transfers} transfers have {left}" if transfers > 1 else f"1 transfer has {left}"
