"""Measure how long a warm manifest takes for others while somebody attacks."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from bench import report
from bench.attacks import result
from bench.attacks.attack import ATTACKS, WARM, Attack
from bench.attacks.distribution import NAME, built
from bench.attacks.result import Burst
from bench.client import Refused
from bench.processes import Failed
from bench.servers import CHECKOUT, Server, start_mirror, start_registry
from tests.fuzz.baiting import Baiting
from tests.fuzz.hostile import Hostile
from tests.fuzz.plays import Trap
from tests.fuzz.shapes import made
from tests.fuzz.wire import Talking

REPOSITORY = "library/warm"
_HERE = Path(__file__).parents[1]
_PAUSE = 0.01  # s before who has been refused comes again
_BEGINS_AFTER = 0.5  # s that an attack has before others are looked at


class Field:
    """A server, and the upstream that it alone has."""

    def __init__(self, server: Server, upstream: Hostile) -> None:
        self.server = server
        self._upstream = upstream
        self._attacks = 0

    async def warm(self) -> None:
        """Pull the image that others want."""
        self._upstream.trap = Trap((), document=WARM)
        digest = made(WARM, REPOSITORY).digest
        await self._probed(f"/v2/{REPOSITORY}/manifests/latest", 0.3)
        if max(await self._probed(f"/v2/{REPOSITORY}/manifests/{digest}", 0.5)) > 1:
            raise Failed(f"{self.server.name} does not keep a manifest")

    async def burst(self, attack: Attack, seconds: float) -> Burst:
        """Attack it, and look at what others wait meanwhile."""
        self._attacks += 1
        attacking = asyncio.create_task(self._attack(attack, f"attack/n{self._attacks}"))
        await asyncio.sleep(_BEGINS_AFTER)
        before = self.server.process.cpu()
        digest = made(WARM, REPOSITORY).digest
        took = await self._probed(f"/v2/{REPOSITORY}/manifests/{digest}", seconds)
        cpu = (self.server.process.cpu() - before) / seconds
        memory = self.server.process.memory().now
        if attacking.done() and attack.name != "none":
            raise Failed(f"the attack on {self.server.name} has ended: {attacking}")
        attacking.cancel()
        await asyncio.gather(attacking, return_exceptions=True)
        await self._upstream.hang_up()
        return Burst(attack.name, self.server.name, took, cpu, memory)

    async def _attack(self, attack: Attack, repository: str) -> None:
        """Attack until it is cancelled: whatever ends is begun again."""
        where = urlsplit(self.server.url)
        talking = Talking((str(where.hostname), where.port or 80), {})
        async with asyncio.TaskGroup() as group:
            if (talk := attack.talk) is not None:
                for _ in range(talk.crowd):
                    group.create_task(_again(partial(talking.play, replace(talk, crowd=1))))
            if (trap := attack.trap) is not None:
                # Each of these proxies has one upstream, so that nobody names it.
                bait = Baiting(self._upstream, "", talking)
                names = (f"{repository}-{number}" for number in count())
                group.create_task(_again(lambda: bait.play(trap, next(names))))

    async def _probed(self, path: str, seconds: float) -> list[float]:
        command = (
            sys.executable,
            "-m",
            "bench.attacks.probe",
            self.server.url + path,
            f"{seconds}",
        )
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, cwd=CHECKOUT
        )
        said, _ = await process.communicate()
        took: list[float] = json.loads(said)
        return took


async def _again(play: Callable[[], Awaitable[None]]) -> None:
    while True:
        await play()
        await asyncio.sleep(_PAUSE)


async def measure(folder: Path, rounds: int, seconds: float, only: Sequence[str]) -> list[Burst]:
    """Measure all servers under each attack, in turn."""
    bursts: list[Burst] = []
    attacks = [each for each in ATTACKS if not only or each.name in only]
    async with AsyncExitStack() as stack:
        fields = await _fields(stack, folder)
        for field in fields:
            await field.warm()
        for attack in attacks:
            for number in range(rounds):
                for field in fields if number % 2 else reversed(fields):
                    burst = await field.burst(attack, seconds)
                    bursts.append(burst)
                    _say(result.line(burst))
                    await asyncio.sleep(1)
    return bursts


async def _fields(stack: AsyncExitStack, folder: Path) -> list[Field]:
    processes = stack.enter_context(ExitStack())
    fields = []
    for name, command in _servers():
        upstream = Hostile()
        await upstream.start()
        stack.push_async_callback(upstream.close)
        if name == "mirror":
            server = await asyncio.to_thread(start_mirror, processes, folder / name, upstream.url)
        else:
            server = await asyncio.to_thread(
                start_registry, processes, folder / name, upstream.url, None, command, name
            )
        fields.append(Field(server, upstream))
    return fields


def _servers() -> list[tuple[str, str]]:
    found = [("mirror", ""), ("docker-registry", "docker-registry")]
    if (command := built(_say)) is not None:
        found.append((NAME, str(command)))
    return found


def main() -> int:
    """Measure; returns the exit code."""
    asked = _parser().parse_args()
    if shutil.which("docker-registry") is None:
        _say("docker-registry not found: apt-get install docker-registry")
        return 2
    neighbours = report.Neighbours()
    try:
        with tempfile.TemporaryDirectory(prefix="mirror-bench-") as folder:
            bursts = asyncio.run(measure(Path(folder), asked.rounds, asked.seconds, asked.only))
    except (Failed, Refused, OSError) as error:
        _say(f"bench: {error}")
        return 1
    where = report.machine(neighbours.cores())
    page = result.as_markdown(where, bursts)
    print(page)
    if not asked.only:
        (_HERE / "ATTACKS.md").write_text(page)
        (_HERE / "attacks.json").write_text(result.as_json(where, bursts))
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each attack lasts")
    names = [each.name for each in ATTACKS]
    parser.add_argument("--only", action="append", choices=names, default=[])
    return parser


if __name__ == "__main__":
    sys.exit(main())
