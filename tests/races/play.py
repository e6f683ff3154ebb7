"""A play: one seed's operations on one data folder, and the faults that they led to."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mirror.admin.messages import (
    DuOrder,
    GcOrder,
    LsOrder,
    PinOrder,
    PurgeOrder,
    Refused,
    ShowOrder,
    UnpinOrder,
    VerifyOrder,
    Work,
)
from mirror.admin.service import AdminService
from mirror.content.blobs.fetch_pool import FetchPool
from tests.races import checks
from tests.races.clients import Clients
from tests.races.clock import CLOCK, Chance
from tests.races.life import Life, Lives, settings
from tests.races.loop import SeededLoop
from tests.races.plan import Manner, Step, manner, steps
from tests.races.registry import Trouble, Upstream
from tests.races.threads import Threads, taking_turns
from tests.races.world import World

HELD = 0.05  # seconds of CPU time for which one handle may hold the loop
_SETTLE = 5.0  # virtual seconds in which begun work is done and written
_ABANDONED = 90.0  # virtual seconds in which a fetch without followers ends
_MOST = 900.0  # virtual seconds that a play may take
_EXPECTED = (
    "is damaged or missing: quarantined",
    "do not fit in max_size: the rest is in use",
    "do not fit beside the content in use",  # pinned content may be as much as half
)
_IN_TROUBLE = ("cannot store", "no client follows")
_SLACK = 64 * 1024  # bytes: the index and its log change while they are counted


@dataclass
class Played:
    """The result of a play: its faults in their order, and a trace of all that was done."""

    seed: str
    steps: tuple[Step, ...]
    wrong: list[tuple[str, str]] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    held: float = 0.0
    gates: int = 0

    @property
    def kinds(self) -> list[str]:
        """The kinds of faults, each once."""
        return list(dict.fromkeys(kind for kind, _ in self.wrong))


class _Log(logging.Handler):
    """Notes an error in a daemon's log that is not expected."""

    def __init__(self, wrong: Callable[[str, str], None], expected: Sequence[str]) -> None:
        super().__init__(logging.ERROR)
        self._wrong = wrong
        self._expected = expected

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if record.exc_info or not any(each in said for each in self._expected):
            text = logging.Formatter().format(record) if record.exc_info else said
            self._wrong("the log says what nothing explains", text)


class Play:
    """Carries out steps on a daemon; its threads and awaits take turns by the seed."""

    def __init__(self, seed: str, folder: Path, only: Sequence[Step] | None = None) -> None:
        self._manner: Manner = manner(seed)
        self._world = World(seed)
        chosen = tuple(steps(seed, self._world) if only is None else only)
        self.played = Played(seed, chosen)
        self._folder = folder
        self._chance = Chance(seed)
        self._threads = Threads(CLOCK)
        self._began = CLOCK.now
        trouble = self._manner.trouble
        self._trouble = Trouble(trouble, self._chance.share)
        self._clients = Clients(self._world, self._late, self._wrong, sound=not trouble)
        chosen_settings = settings(folder, self._world.upstreams, self._manner)
        self._lives = Lives(chosen_settings, self._upstream)
        self._orders: set[asyncio.Task[None]] = set()
        self._checked = False

    def run(self) -> Played:
        """Play."""
        random.seed(self.played.seed)
        self._threads.delay, self._threads.on_gate = self._delay, self._at_gate
        shuffled = self._manner.shuffled
        with taking_turns(self._threads), self._lives.wired():
            loop = SeededLoop(CLOCK, self._threads, self._chance, shuffled=shuffled)
            loop.held = self._held
            loop.set_exception_handler(self._on_exception)
            log = _Log(self._wrong, (*_EXPECTED, *(_IN_TROUBLE if self._manner.trouble else ())))
            root = logging.getLogger()
            root.handlers[:] = [log]
            root.setLevel(logging.INFO)
            try:
                loop.run_until_complete(self._play())
            except Exception as error:  # noqa: BLE001 - a daemon that cannot start is a finding
                self._wrong("the play broke off", repr(error))
            finally:
                root.handlers[:] = []
                loop.close()
                self._threads.close()
        return self.played

    # The steps

    async def _play(self) -> None:
        async with asyncio.timeout(_MOST):
            await self._lives.start()
            for step in self.played.steps:
                await asyncio.sleep(max(0.0, self._began + step.at - CLOCK.now))
                self._say(f"begins {step}")
                await self._take(step)
            life = self._life
            await self._rest(life)
            self._hold(checks.at_rest(life, self._folder, self._world))
            await self._end(hurried=False)
            await self._lives.start()
            await self._rest(self._life)
            self._hold(checks.at_rest(self._life, self._folder, self._world))
            await self._end(hurried=False)

    @property
    def _life(self) -> Life:
        assert self._lives.now is not None
        return self._lives.now

    async def _take(self, step: Step) -> None:
        life = self._life
        match step.kind:
            case "blob" | "head" | "manifest" | "tag":
                life.ask(self._ask(step, life))
            case "move":
                home = self._world.homes[step.repository]
                home.at = min(home.at + 1, len(home.versions) - 1)
            case "alter" | "delete" | "touch":
                self._damage(step)
            case "clock":
                CLOCK.set_by += (step.more - 0.5) * 40_000
            case "stop" | "hurry":
                await self._end(hurried=step.kind == "hurry", after=step.more)
                await self._lives.start()
            case _:
                self._order(life, self._work(step))

    def _work(self, step: Step) -> Work:
        """Return the order of a step."""
        image = self._image(step)
        work: dict[str, Work] = {
            "gc": GcOrder(),
            "verify": VerifyOrder(),
            "du": DuOrder(),
            "ls": LsOrder(sort="bytes", limit=2),
            "show": ShowOrder(image),
            "pin": PinOrder((image,)),
            "unpin": UnpinOrder((image,)),
        }
        return work.get(step.kind) or PurgeOrder(self._target(step))

    async def _ask(self, step: Step, life: Life) -> None:
        await self._clients.ask(step, life)
        self._say(f"ends   {step}")

    def _target(self, step: Step) -> str:
        if step.more < 0.6:
            return str(step.digest)
        self._world.disowned = True
        name = f"{step.repository.upstream}/{step.repository.name}"
        return name if step.more < 0.8 else f"{name}:latest"

    def _image(self, step: Step) -> str:
        name = f"{step.repository.upstream}/{step.repository.name}"
        return f"{name}:latest" if step.more < 0.6 else f"{name}@{step.digest}"

    def _order(self, life: Life, order: Work) -> None:
        async def carry_out() -> None:
            try:
                async for record in life.part(AdminService).carry_out(order):
                    self._say(f"order  {record}")
                    if isinstance(record, Refused) and not _is_honest(record):
                        self._wrong("an order is refused", record.reason)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - any error is a finding
                self._wrong("an order fails in a way nobody foresaw", f"{order}: {error!r}")

        life.ask(carry_out())

    def _damage(self, step: Step) -> None:
        """Alter, delete or touch a kept file; open descriptors still read the old content."""
        path = checks.kept(self._folder).get(str(step.digest))
        if path is None:
            return
        stat = path.stat()
        if step.kind == "touch":
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
            return
        self._world.altered.add(step.digest)
        if step.kind == "delete":
            path.unlink()
            return
        other = self._folder / "other"
        other.write_bytes(bytes(stat.st_size))
        os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        other.rename(path)

    async def _rest(self, life: Life) -> None:
        """Wait until all clients have ended and all is written."""
        while life.clients:
            await asyncio.wait(set(life.clients))
        until = CLOCK.now + _ABANDONED
        await asyncio.sleep(_SETTLE)
        while self._threads.busy or (len(life.part(FetchPool)) and CLOCK.now < until):
            await asyncio.sleep(_SETTLE)

    async def _end(self, *, hurried: bool, after: float = 0.0) -> None:
        """End a life, by one signal or two, and check the disk that it leaves."""
        life = self._life
        life.signal()
        if hurried:
            await asyncio.sleep(after**2 * 3)
            life.signal()
        code = await life.ended()
        if code:
            self._wrong("a wrong exit code", str(code))
        while self._threads.busy:  # for example a file that is closed on a thread
            await asyncio.sleep(0.01)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            self._wrong("a task is left", f"{left}")
        self._hold(checks.after_the_end(self._folder, self._world))
        self._say(f"ended with {code}")

    # Delays and gates

    def _upstream(self, name: str) -> Upstream:
        return Upstream(name, self._world, self._late, self._trouble)

    async def _late(self, label: str) -> None:
        self._say(f"waits  {label}")
        await asyncio.sleep(self._delay(label))

    def _delay(self, label: str) -> float:
        """Return the seconds of a wait with this label: mostly few, rarely the most."""
        slow = self._manner.slow.get(label.partition(" ")[0], 0.0005)
        drawn: float = self._chance.share(label) ** 4
        return slow * drawn

    def _at_gate(self, label: str) -> None:
        self.played.gates += 1
        self._say(f"gate   {label}")
        if label.startswith(("fdatasync", "unlink", "rename")):
            held = checks.held(self._folder)
            if held > self._manner.bound + _SLACK:
                self._wrong("above the bound", f"{held} of {self._manner.bound} at {label}")

    # Findings

    def _hold(self, found: checks.Found) -> None:
        self._checked = True
        for kind, what in [*found, *checks.quarantined(self._folder)]:
            self._wrong(kind, what)

    def _held(self, seconds: float, by: str) -> None:
        checked, self._checked = self._checked, False
        if checked:  # the time was the play's, not the daemon's
            return
        self.played.held = max(self.played.held, seconds)
        if seconds > HELD:
            self._wrong("the loop is held", f"{seconds * 1000:.0f} ms by {by}")

    def _on_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self._wrong("an exception that nobody took", f"{context}")

    def _say(self, what: str) -> None:
        self.played.trace.append(f"{CLOCK.now - self._began:9.4f}  {what}")

    def _wrong(self, kind: str, what: str) -> None:
        self.played.wrong.append((kind, what))
        self._say(f"WRONG  {kind}: {what}")


def play(seed: str, only: Sequence[Step] | None = None) -> Played:
    """Play a seed in a new folder; with `only`, just those of its steps."""
    folder = Path(tempfile.mkdtemp(prefix="races-"))
    gc.unfreeze()  # each daemon's start froze what the plays before had left: tasks, too
    gc.collect()
    gc.disable()  # the running handle would be charged for a collection
    try:
        return Play(seed, folder / "data", only).run()
    finally:
        gc.enable()
        shutil.rmtree(folder, ignore_errors=True)


def shrink(found: Played) -> Played:
    """Leave out the steps that the first kind of fault does not need."""
    kind, smallest = found.kinds[0], found
    size = max(1, len(found.steps) // 2)
    while size:
        at = 0
        while at < len(smallest.steps):
            fewer = smallest.steps[:at] + smallest.steps[at + size :]
            played = play(found.seed, fewer)
            if kind in played.kinds:
                smallest = played
            else:
                at += size
        size //= 2
    return smallest


def demand(plays: Sequence[Played]) -> Counter[str]:
    """Count the plays in which each kind of fault came about."""
    return Counter(kind for played in plays for kind in played.kinds)


def _is_honest(refused: Refused) -> bool:
    """Whether an order is refused for what the play itself did."""
    return refused.reason.startswith("nothing of ") or " is pinned: " in refused.reason
