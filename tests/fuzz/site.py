"""The site: a daemon in one life, and its honest and hostile peers, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mirror.storage.metadata.sqlite.database import WAL_BYTES
from tests.fuzz.peers import Peers, gathered
from tests.fuzz.plays import Play
from tests.fuzz.verdict import DESCRIPTORS, Measured, Wrong, judged
from tests.support.pace import slowness
from tests.torture import checks, disk
from tests.torture.process import Daemon

LASTS = 3.0  # s for hostile peers
MAX_SIZE = 96 * 1024 * 1024
UPSTREAMS = 8  # hostile upstreams; each has one trap at a time
SETTLES_WITHIN = 20.0  # s after the last hostile peer has gone
# s: a fetch without followers may go on for 70, its connection is kept for 15 more
AGED_WITHIN = 90.0
STOPS_WITHIN = 12.0  # s: a grace of 1 s, and the time of the disk
ERRAND_WITHIN = 20.0  # s for a command
_LOOK_EVERY = 0.1  # s
_OURS = 2  # connections: the probe's, and the connection for the metrics
_CHECKOUT = Path(__file__).parents[2]


class Helper:
    """A process that answers each line with a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self) -> dict[str, Any]:
        """Read a line."""
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the fuzz itself has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def ask(self, *words: str) -> dict[str, Any]:
        """Write a line, and read one."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        return await self.said()

    async def end(self) -> None:
        """Kill the process, and wait for its end."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Site:
    """One life of a daemon. `play` rounds, then `stop` it; both return the faults."""

    def __init__(self, daemon: Daemon, peers: Peers, honest: Helper, probe: Helper) -> None:
        self.daemon = daemon
        self._peers = peers
        self._honest = honest
        self._probe = probe
        self._names: dict[str, str] = {}
        self._read = 0  # characters of the log that have been checked
        self._held: list[str] = []  # lines of the log that name the code that blocked the loop
        self._base = Measured()
        self.last = Measured()

    async def begin(self) -> None:
        """Let the honest client pull the warm content."""
        said = await self._honest.ask("meet", self.daemon.url)
        if said["wrong"]:
            raise RuntimeError(f"the honest client is not served: {said['wrong']}")
        self._names = {"manifest": said["manifest"], "warm": said["warm"]}
        self._base = await self._measured()

    async def play(self, plays: Sequence[Play], salt: str) -> list[Wrong]:
        """Let hostile peers play for a while, and check the daemon once they have gone."""
        self._forget_peak()
        said = await self._honest.ask("begin", salt)
        wrong = await self._let(plays, said["cold"], LASTS)
        told = await self._honest.ask("end")
        wrong += [Wrong("honest client", each) for each in told["wrong"]]
        wrong += await self._settled()
        await self._aged()
        before, self.last = self.last, await self._measured()
        self.last.slowest = told["slowest"]
        pace = await asyncio.to_thread(slowness)
        found = judged(self._base, before, self.last, pace)
        log, held = self._log(), self._held
        ran = [Wrong("stall", each) for each in held if "stall" in {one.kind for one in found}]
        return [*wrong, *found, *ran, *log]

    async def stop(self, plays: Sequence[Play]) -> list[Wrong]:
        """End the life in the middle of plays, and check the data folder."""
        figures = await self.daemon.metrics()
        wrong = [
            Wrong("books", each)
            for each in checks.accounting(
                self.daemon.folder, int(figures["mirror_cache_bytes"]), WAL_BYTES
            )
        ]
        wrong += await self._errands()
        playing = asyncio.create_task(self._let(plays, self._names["warm"], STOPS_WITHIN + 5))
        await asyncio.sleep(LASTS / 3)
        wrong += await self._ended()
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        folder = self.daemon.folder
        left = [*checks.index(folder, disk.rows(folder)), *checks.files(folder)]
        return [*wrong, *(Wrong("books", each) for each in left)]

    async def _ended(self) -> list[Wrong]:
        began, log = time.monotonic(), self._log()
        stopping = asyncio.create_task(self.daemon.stop())
        done, _ = await asyncio.wait([stopping], timeout=STOPS_WITHIN)
        if not done:
            assert self.daemon.pid
            os.kill(self.daemon.pid, signal.SIGKILL)
            await asyncio.wait([stopping])
            return [*log, Wrong("stop", f"it has not stopped after {STOPS_WITHIN:.0f} s")]
        code, took = stopping.result(), time.monotonic() - began
        wrong = [Wrong("stop", f"it ended with {code} after {took:.1f} s")] if code else []
        said = checks.log(self.daemon.said)
        return [*log, *wrong, *(Wrong("log", each) for each in said if not log)]

    async def _let(self, plays: Sequence[Play], cold: str, lasts: float) -> list[Wrong]:
        names = self._names | {"cold": cold, "repository": "library/warm"}
        found = await self._peers.let(self.daemon.url, plays, names, lasts)
        return [Wrong("answer", each) for each in found]

    async def _settled(self) -> list[Wrong]:
        until = time.monotonic() + SETTLES_WITHIN
        while True:
            try:
                figures = await self.daemon.metrics()
            except TimeoutError:
                return [Wrong("stall", "/metrics was not had in 10 s")]
            names = ("mirror_fetches", "mirror_followers", "mirror_connections")
            held = {each: int(figures[each]) for each in names}
            held["mirror_connections"] -= min(held["mirror_connections"], _OURS)
            assert self.daemon.pid
            held["files"] = len(disk.descriptors(self.daemon.pid, self.daemon.folder).content)
            if not any(held.values()):
                return []
            if time.monotonic() > until:
                return [Wrong("growth", f"{SETTLES_WITHIN:.0f} s after the last peer: {held}")]
            await asyncio.sleep(_LOOK_EVERY)

    async def _aged(self) -> None:
        """Wait until the kept connections to upstreams have ended by themselves."""
        until = time.monotonic() + AGED_WITHIN
        while self._open() > self._base.descriptors + DESCRIPTORS:
            await asyncio.sleep(_LOOK_EVERY)
            if time.monotonic() > until:
                return

    def _open(self) -> int:
        """Count the daemon's open descriptors."""
        assert self.daemon.pid
        found = disk.descriptors(self.daemon.pid, self.daemon.folder)
        return len(found.content) + found.sockets + found.others

    async def _errands(self) -> list[Wrong]:
        """Run an operator's commands: each must end."""
        return [
            *await self._errand("du"),
            *await self._errand("purge", "docker.io/library/warm:latest"),
            *await self._errand("gc"),
        ]

    async def _errand(self, *words: str) -> list[Wrong]:
        command = (sys.executable, "-m", "mirror", *words, "--data-dir", str(self.daemon.folder))
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=_CHECKOUT,
        )
        try:
            async with asyncio.timeout(ERRAND_WITHIN):
                _, said = await process.communicate()
        except TimeoutError:
            process.kill()
            return [Wrong("stall", f"`mirror {' '.join(words)}` did not end")]
        failed = process.returncode and b"nothing" not in said
        return [Wrong("errand", f"{words}: {said.decode()[-300:]}")] if failed else []

    def _log(self) -> list[Wrong]:
        said, self._read = self.daemon.says[self._read :], len(self.daemon.says)
        self._held = [line for line in said.splitlines() if "loop was held" in line]
        return [Wrong("log", each) for each in checks.log(said)]

    async def _measured(self) -> Measured:
        pid, folder = self.daemon.pid, self.daemon.folder
        assert pid
        sizes = _memory(pid)
        probed = await self._probe.ask("tell")
        figures = await self.daemon.metrics()
        return Measured(
            stall=probed["stall"],
            latency=probed["latency"],
            lag=figures.get("mirror_loop_lag_most_seconds", 0.0),
            resident=sizes["VmRSS"],
            peak=sizes["VmHWM"],
            descriptors=self._open(),
            threads=disk.threads(pid),
            rows=_rows(folder),
            empties=len(await _empty_ones(folder)),
            partials=len(disk.partials(folder)),
        )

    def _forget_peak(self) -> None:
        with suppress(OSError):
            Path(f"/proc/{self.daemon.pid}/clear_refs").write_text("5")


async def _empty_ones(folder: Path) -> set[str]:
    """Return the partials that stay empty: each is empty for a moment at its beginning."""
    empty = _empty(folder)
    if empty:
        await asyncio.sleep(1)
    return empty & _empty(folder)


def _empty(folder: Path) -> set[str]:
    found = set[str]()
    for name, path in disk.partials(folder).items():
        with suppress(FileNotFoundError):
            found.update({name} if not path.stat().st_size else ())
    return found


def _memory(pid: int) -> dict[str, int]:
    """Return a process's figures of memory, in bytes, by the kernel's names."""
    pairs = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) * 1024 for words in pairs if words[-1] == "kB"}


def _rows(folder: Path) -> int:
    """Count the rows of the index, all tables together."""
    with closing(
        sqlite3.connect(f"file:{folder / 'index.db'}?mode=ro", uri=True, timeout=5)
    ) as index:
        tables = [name for (name,) in index.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table'"
        )]  # fmt: skip
        counts = [index.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables]
    return sum(counts)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Site]:
    """Open a site on an empty folder; its processes end with it."""
    async with AsyncExitStack() as stack:
        peers = await stack.enter_async_context(gathered(UPSTREAMS))
        honest = await _helper(stack, "tests.fuzz.honest")
        url = (await honest.said())["url"]
        daemon = Daemon(folder, url, MAX_SIZE, peers.upstreams)
        stack.push_async_callback(daemon.close)
        await daemon.start()
        where = urlsplit(daemon.url)
        probe = await _helper(
            stack, "tests.fuzz.probe", str(where.hostname), str(where.port), str(daemon.pid)
        )
        site = Site(daemon, peers, honest, probe)
        await site.begin()
        yield site


async def _helper(stack: AsyncExitStack, module: str, *words: str) -> Helper:
    environment: Mapping[str, str] = os.environ | {"PYTHONPATH": str(_CHECKOUT)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        cwd=_CHECKOUT,
    )
    helper = Helper(process)
    stack.push_async_callback(helper.end)
    return helper
