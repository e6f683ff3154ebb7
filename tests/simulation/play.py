"""Plays a trace before a hub, and counts the outcomes of its pulls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from mirror.oci.errors import RegistryError
from mirror.settings import Settings
from tests.simulation.hub import Clock, Hub, Terms, make_document, parts
from tests.simulation.mirrored import Mirrored
from tests.simulation.policies import Direct, OfficialProxy, Policy
from tests.simulation.trace import Foreign, Job, Move, Name, Outage, Pull, Restart, Trace

_STEP = 60.0  # seconds; the longest time between two ticks
_LEAST_STEP = 1.0  # seconds


@dataclass
class Score:
    """The results of a policy. Times are in seconds."""

    policy: str
    pulls: int = 0
    counted: int = 0
    refused: int = 0  # by the hub, which was asked without a pull left
    heads: int = 0  # that the hub got
    waited: int = 0  # pulls that waited for what the tag means
    failed: Counter[str] = field(default_factory=Counter)  # by kind of error
    stale: list[float] = field(default_factory=list)  # how long the tag had pointed elsewhere
    worst_in_plenty: float = 0.0  # of these while the hub answered and enough pulls were left
    served: set[str] = field(default_factory=set)  # digests that clients got
    wanted: set[str] = field(default_factory=set)  # digests that the tags pointed at then

    @property
    def median_stale(self) -> float:
        """The median age of stale answers; 0 if there were none."""
        return median(self.stale or [0.0])

    @property
    def worst_stale(self) -> float:
        """The worst age of a stale answer; 0 if there were none."""
        return max(self.stale, default=0.0)


class Play:
    """A trace, a hub, and a policy between them."""

    def __init__(self, trace: Trace, hub: Hub, clock: Clock, policy: Policy, score: Score) -> None:
        self._trace = trace
        self._hub = hub
        self._clock = clock
        self._policy = policy
        self.score = score

    def __repr__(self) -> str:
        return f"<Play: {self.score.pulls} pulls so far>"

    async def run(self) -> Score:
        """Play to the end."""
        for event in self._trace.events:
            await self._wait_until(event.at)
            match event:
                case Job():
                    await self._job(event)
                case Move():
                    self._tag(event.name, event.version)
                case Outage():
                    self._hub.down = event.down
                case Foreign():
                    self._hub.spend_elsewhere()
                case Restart():
                    await self._policy.restart()
        self.score.counted, self.score.refused = self._hub.counted, self._hub.refused
        self.score.heads, self.score.waited = self._hub.heads, self._policy.waited
        return self.score

    async def _wait_until(self, at: float) -> None:
        while self._clock.now < at:
            step = max(_LEAST_STEP, min(_STEP, self._policy.next_tick()))
            self._clock.now = min(at, self._clock.now + step)
            await self._policy.tick()

    async def _job(self, job: Job) -> None:
        """Let all runners of a matrix pull, and judge their results when all have ended."""
        for pull in job.pulls:
            self.score.wanted.update(parts(self._hub.points_at(pull.name)))
        for pull, got in await asyncio.gather(*map(self._pull, job.pulls)):
            if isinstance(got, RegistryError):
                self.score.failed[type(got).__name__] += 1
            else:
                self._judge(pull, got)
        self.score.pulls += len(job.pulls)

    async def _pull(self, pull: Pull) -> tuple[Pull, tuple[str, ...] | RegistryError]:
        try:
            return pull, await self._policy.pull(pull)
        except RegistryError as error:
            return pull, error

    def _judge(self, pull: Pull, got: tuple[str, ...]) -> None:
        score, hub = self.score, self._hub
        score.served.update(got)
        if stale := hub.stale_for(pull.name, got[0]):
            score.stale.append(stale)
            if hub.remaining >= len(got) and not hub.down:
                score.worst_in_plenty = max(score.worst_in_plenty, stale)

    def _tag(self, name: Name, version: int) -> None:
        self._hub.tag(name, make_document(name, version, self._trace.fleet.platforms))


def _hub_of(trace: Trace, terms: Terms, clock: Clock) -> Hub:
    hub = Hub(terms, clock)
    for name in trace.fleet.names:
        hub.tag(name, make_document(name, 0, trace.fleet.platforms))
    return hub


async def play_others(trace: Trace, terms: Terms) -> list[Score]:
    """Play a trace with the other policies."""
    scores = []
    for kind in (Direct, OfficialProxy):
        clock = Clock()
        hub = _hub_of(trace, terms, clock)
        scores.append(await Play(trace, hub, clock, kind(hub), Score(kind.name)).run())
    return scores


async def play_mirror(
    trace: Trace, terms: Terms, folder: Path, settings: Settings, name: str = Mirrored.name
) -> Score:
    """Play a trace with the mirror, which has its data in a folder."""
    clock = Clock()
    hub = _hub_of(trace, terms, clock)
    async with _started(Mirrored(hub, clock, folder, settings)) as mirrored:
        return await Play(trace, hub, clock, mirrored, Score(name)).run()


@asynccontextmanager
async def _started(mirrored: Mirrored) -> AsyncIterator[Mirrored]:
    await mirrored.start()
    try:
        yield mirrored
    finally:
        await mirrored.stop()
