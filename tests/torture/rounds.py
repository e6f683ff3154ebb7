"""The rounds: play one as planned, let it settle, check it, and count."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mirror.storage.metadata.sqlite.database import WAL_BYTES
from tests.fuzz.peers import Peers, gathered
from tests.standin import Blob
from tests.torture import checks, disk
from tests.torture.checks import Circumstances, Failures
from tests.torture.clients import Client, Outcome
from tests.torture.disk import Descriptors, Gauge, Rows
from tests.torture.plan import ClientPlan, Denial, Outage, RoundPlan
from tests.torture.process import Daemon
from tests.torture.world import World, denying, repository

SETTLES_WITHIN = 30.0  # s for the last fetch to end after the last client
HEALS_WITHIN = 15.0  # s after the last fault until every pull is right
LETS_GO_WITHIN = 5.0  # s for descriptors to be closed
FLUSHES_WITHIN = 5.0  # s for the index's rows to be written
HOSTILE_UPSTREAMS = 2
_HEALED = 2  # images that are pulled after all faults
_LOOK_EVERY = 0.1  # s


@dataclass
class Counted:
    """The figures and findings of a round. Sizes are in bytes, durations in seconds."""

    plan: RoundPlan
    seconds: float = 0.0
    ends: Counter[str] = field(default_factory=Counter)
    received: int = 0
    sent: int = 0
    evicted: int = 0
    strict: bool = False
    most: int = 0
    samples: int = 0
    kept: int = 0
    partials: int = 0
    failures: Failures = field(default_factory=Failures)
    wrong: list[str] = field(default_factory=list)
    said: str = ""  # the daemon's log


class Torture:
    """A daemon and the world around it, from round to round. Use as `async with torture(…)`."""

    def __init__(self, world: World, daemon: Daemon, peers: Peers) -> None:
        self._world = world
        self._peers = peers
        self._daemon = daemon
        self._base = Descriptors((), 0, 0)
        self._strange = set[str]()  # partials of hostile upstreams
        self._answered: list[str] = []  # answers to hostile peers that must not be

    async def play(self, plan: RoundPlan) -> Counted:
        """Play a round and check it."""
        counted, began = Counted(plan), time.monotonic()
        await self._turn(plan)
        rows = disk.rows(self._daemon.folder)
        kept = disk.identities(self._daemon.folder)
        before = await self._daemon.metrics()
        gauge = Gauge(self._daemon.folder)
        sampling = asyncio.create_task(gauge.run())
        try:
            outcomes = await self._clients(plan)
            counted.wrong += self._answered
            self._world.hub.faults.clear()
            if not await self._daemon.settled(SETTLES_WITHIN):
                counted.wrong.append(f"fetches still ran {SETTLES_WITHIN:.0f} s after the last")
            after = await self._daemon.metrics()
            self._judge(plan, counted, outcomes, (rows, kept), (before, after))
            counted.wrong += await self._healed(plan)
            await self._daemon.settled(SETTLES_WITHIN)
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
        counted.most, counted.samples = gauge.most, gauge.samples
        counted.wrong += checks.bound(gauge.most, plan.max_size)
        counted.wrong += await self._left_behind(counted)
        counted.seconds = time.monotonic() - began
        return counted

    async def _turn(self, plan: RoundPlan) -> None:
        """Begin: move the tags, add the faults, start the daemon with this round's bound."""
        self._world.turn(plan)
        self._daemon.max_size = plan.max_size
        await self._daemon.start()
        assert self._daemon.pid
        self._base = disk.descriptors(self._daemon.pid, self._daemon.folder)

    async def _clients(self, plan: RoundPlan) -> list[Outcome]:
        """Let the clients pull while upstream and the daemon die as planned."""
        outcomes: list[Outcome] = []
        async with asyncio.TaskGroup() as group:
            for client in plan.clients:
                run = Client(client, self._daemon.url, self._world, outcomes).run
                group.create_task(_drop_result(run))
            group.create_task(self._kill(plan.kills))
            group.create_task(self._lose_upstream(plan.outages))
            group.create_task(self._deny(plan.denials))
            group.create_task(self._attack(plan))
        return outcomes

    async def _attack(self, plan: RoundPlan) -> None:
        """Let hostile peers attack for as long as clients begin."""
        wanted = self._world.image(plan.tags[0])
        names = {
            "manifest": wanted.digest,
            "warm": wanted.blobs[0].digest,
            "cold": wanted.blobs[-1].digest,
            "repository": repository(0),
        }
        self._answered = await self._peers.let(
            self._daemon.url, plan.attacks, names, plan.lasts if plan.attacks else 0.0
        )

    async def _kill(self, moments: tuple[float, ...]) -> None:
        began = time.monotonic()
        for moment in moments:
            await asyncio.sleep(max(began + moment - time.monotonic(), 0))
            await self._daemon.kill()

    async def _lose_upstream(self, outages: tuple[Outage, ...]) -> None:
        for outage in outages:
            await asyncio.sleep(outage.begins)
            await self._world.hub.down()
            await asyncio.sleep(outage.lasts)
            await self._world.hub.up()

    async def _deny(self, denials: tuple[Denial, ...]) -> None:
        """Revoke all tokens and have the token service deny every client, for each denial."""
        hub = self._world.hub
        for denial in denials:
            await asyncio.sleep(denial.begins)
            fault = hub.faults.add(denying(denial.status))
            hub.tokens.revoke()
            await asyncio.sleep(denial.lasts)
            hub.faults.remove(fault)

    def _judge(
        self,
        plan: RoundPlan,
        counted: Counted,
        outcomes: list[Outcome],
        before: tuple[Rows, dict[str, tuple[int, int]]],
        figures: tuple[Mapping[str, float], Mapping[str, float]],
    ) -> None:
        """Check the clients' outcomes, and the bytes that upstream sent."""
        world, daemon = self._world, self._daemon
        (rows, kept), (earlier, later) = before, figures
        still = {digest for digest, _ in kept.items() & disk.identities(daemon.folder).items()}
        held = frozenset(link for link in rows.links if link[0] in still)
        around = Circumstances(plan, held, world.digest, daemon.dead_between, rows.tags)
        counted.failures = checks.failures(outcomes, around)
        counted.wrong += checks.clients(outcomes, around)
        sent = world.sent()
        counted.strict = strict = checks.undisturbed(plan, earlier, later)
        counted.wrong += checks.upstream(sent, world.blobs, outcomes, around, undisturbed=strict)
        counted.ends.update(outcome.end for outcome in outcomes)
        counted.received = sum(outcome.received for outcome in outcomes)
        counted.sent = sum(sent.values())
        counted.evicted = int(later["mirror_evictions_total"])

    async def _healed(self, plan: RoundPlan) -> list[str]:
        """Pull once more, without faults: soon every image is complete and right."""
        until = time.monotonic() + HEALS_WITHIN
        wrong = []
        for client in plan.clients[:_HEALED]:
            wanted = ClientPlan(client.tag, client.image, 0, "plain", 0, 0)
            outcomes: list[Outcome] = []
            run = Client(wanted, self._daemon.url, self._world, outcomes).run
            if not await _before(until, run):
                wrong += [f"not mended after {HEALS_WITHIN:.0f} s: {o}" for o in outcomes[-1:]]
            wrong += [
                f"a client completed on what is wrong: {o}"
                for o in outcomes
                if o.end in ("wrong", "unproven")
            ]
        return wrong

    async def _left_behind(self, counted: Counted) -> list[str]:
        """Check the open descriptors of the idle daemon, and the disk once it has ended."""
        daemon, blobs = self._daemon, self._world.blobs
        leaks = await self._leaks()
        figures = await daemon.metrics()
        accounted = int(figures["mirror_cache_bytes"])
        accounting = checks.accounting(daemon.folder, accounted, WAL_BYTES)
        counted.kept, counted.partials = (
            len(disk.blobs(daemon.folder)),
            len(disk.partials(daemon.folder)),
        )
        live = await self._indexed()
        code = await daemon.stop()
        said, daemon.said = daemon.said, ""
        counted.said = said
        return [
            *leaks,
            *accounting,
            *live,
            *([f"it ended with exit code {code}"] if code else []),
            *checks.index(daemon.folder, disk.rows(daemon.folder)),
            *checks.files(daemon.folder),
            *self._partials(counted.plan, blobs),
            *checks.log(said),
        ]

    def _partials(self, plan: RoundPlan, blobs: Mapping[str, Blob]) -> list[str]:
        folder = self._daemon.folder
        if plan.attacks:
            self._strange = set(disk.partials(folder))
            return []
        return checks.partials(folder, blobs, self._strange)

    async def _leaks(self) -> list[str]:
        """Break upstream's idle connections, and check that all descriptors are closed."""
        daemon = self._daemon
        assert daemon.pid
        await self._world.hub.down()
        await self._world.hub.up()
        await self._peers.hang_up()
        wrong: list[str] = []
        for _ in _looks(LETS_GO_WITHIN):
            now = disk.descriptors(daemon.pid, daemon.folder)
            wrong = checks.leaks(self._base, now, disk.threads(daemon.pid))
            if not wrong:
                break
            await asyncio.sleep(_LOOK_EVERY)
        return wrong

    async def _indexed(self) -> list[str]:
        """Wait for the index's rows to be written; returns the differences that remain."""
        wrong: list[str] = []
        for _ in _looks(FLUSHES_WITHIN):
            wrong = checks.index(self._daemon.folder, disk.rows(self._daemon.folder))
            if not wrong:
                break
            await asyncio.sleep(_LOOK_EVERY)
        return [f"while it runs: {each}" for each in wrong]


@asynccontextmanager
async def torture(seed: int, folder: Path) -> AsyncIterator[Torture]:
    """Make the world of a seed and its daemon; all their files are in `folder`."""
    async with AsyncExitStack() as stack:
        (folder / "layers").mkdir(parents=True)
        world = World(seed, folder / "layers")
        await stack.enter_async_context(world.hub)
        peers = await stack.enter_async_context(gathered(HOSTILE_UPSTREAMS))
        daemon = Daemon(folder / "data", world.hub.url, 0, peers.upstreams)
        stack.push_async_callback(daemon.close)
        yield Torture(world, daemon, peers)


def _looks(within: float) -> Iterator[None]:
    """Yield again and again, for so many seconds."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        yield


async def _drop_result(work: Callable[[], Awaitable[bool]]) -> None:
    await work()


async def _before(until: float, work: Callable[[], Awaitable[bool]]) -> bool:
    """Try until the work succeeds; False if it does not in time."""
    while not await work():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_LOOK_EVERY)
    return True
