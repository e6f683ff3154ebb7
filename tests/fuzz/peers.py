"""The hostile peers of a daemon: clients, and upstreams named `h0.test` and so on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from urllib.parse import urlsplit

from tests.fuzz.baiting import Baiting
from tests.fuzz.hostile import Hostile
from tests.fuzz.plays import Play, Talk
from tests.fuzz.wire import Talking


class Peers:
    """Plays plays. Each trap gets the next upstream, and its own repository."""

    def __init__(self, upstreams: Sequence[Hostile]) -> None:
        self._upstreams = upstreams
        self._traps = 0

    @property
    def upstreams(self) -> dict[str, str]:
        """The addresses of the upstreams, by their configured names."""
        return {f"h{number}.test": each.url for number, each in enumerate(self._upstreams)}

    async def let(
        self, url: str, plays: Sequence[Play], names: Mapping[str, str], lasts: float
    ) -> list[str]:
        """Play all plays at once with the daemon at `url` for so many seconds, and hang up.

        `names` are the values for `{name}` in talks. Returns the answers that must not be.
        """
        where = urlsplit(url)
        talking = Talking((str(where.hostname), where.port or 0), names)
        baitings: list[Baiting] = []
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(lasts), asyncio.TaskGroup() as group:
                    for play in plays:
                        if isinstance(play, Talk):
                            group.create_task(talking.play(play))
                            continue
                        self._traps += 1
                        number = self._traps % len(self._upstreams)
                        bait = Baiting(self._upstreams[number], f"h{number}.test", talking)
                        baitings.append(bait)
                        group.create_task(bait.play(play, f"trap/n{self._traps}"))
        finally:
            await self.hang_up()
        return [*talking.wrong, *(each for bait in baitings for each in bait.wrong)]

    async def hang_up(self) -> None:
        """Remove all traps, and break all connections to the upstreams."""
        for each in self._upstreams:
            await each.hang_up()


@asynccontextmanager
async def gathered(count: int) -> AsyncIterator[Peers]:
    """Run so many hostile upstreams."""
    async with AsyncExitStack() as stack:
        upstreams = [Hostile() for _ in range(count)]
        for each in upstreams:
            await each.start()
            stack.push_async_callback(each.close)
        yield Peers(upstreams)
