"""A scene: the daemon's work up to the crash, and the answers that clients got by then."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from mirror.storage.metadata.sqlite import migrations
from tests.crashes.cases import Case
from tests.standin import Hub, Image
from tests.support.command import SMALL, Command, serving
from tests.support.folder import DataFolder

LIMIT = 4 * 1024 * 1024  # bytes: room for some of the images, and never for all
_PULLS = 5  # images that are pulled, two at a time
_ENTERED = 1.5  # seconds after which an answered pull is in the ledger
_OLD_PULLS = 3


@dataclass
class Told:
    """The clients' findings and the daemon's end; `answered` are the times of manifests."""

    answered: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    code: int | None = None
    said: str = ""
    died: float = 0.0
    old_pulls: int = 0
    serving: bool = False

    @property
    def entered(self) -> int:
        """The number of pulls that must be in the ledger in any case."""
        return self.old_pulls + sum(at < self.died - _ENTERED for at in self.answered)


def options(hub: Hub) -> tuple[str, ...]:
    """Return the flags of the daemon."""
    bound = ("--max-size", str(LIMIT), "--memory-cache", "100KiB")
    return ("--upstream", f"docker.io={hub.url}", "--shutdown-grace", "1", *bound)


@asynccontextmanager
async def traced(case: Case, data: Path, hub: Hub) -> AsyncIterator[Command]:
    """Run the daemon under strace, and kill both: the daemon outlives a killed strace."""
    tracer = (*case.tracer, *SMALL)
    async with serving(data, *options(hub), command=tracer) as command:
        try:
            yield command
        finally:
            send(command, signal.SIGKILL)


def send(command: Command, number: signal.Signals) -> None:
    """Send a signal to the daemon, for strace does not pass it on."""
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text()
        for child in children.split():
            os.kill(int(child), number)


async def play(case: Case, data: Path, hub: Hub, images: list[Image]) -> Told:
    """Pull beyond the bound, purge, pull again, stop; the crash comes where the case has it."""
    told = Told()
    if case.scene == "migrate":
        told.old_pulls = old_index(data)
    async with traced(case, data, hub) as command:
        with suppress(AssertionError, aiohttp.ClientError, TimeoutError, OSError):
            url = await command.address(within=30)
            told.serving = True
            await _work(url, data, images, told)
        send(command, signal.SIGTERM)
        ended = await command.ended(within=60)
        told.code, told.said, told.died = ended.code, ended.err, time.monotonic()
    return told


async def _work(url: str, data: Path, images: list[Image], told: Told) -> None:
    for first in range(0, _PULLS, 2):
        pair = range(first, min(first + 2, _PULLS))
        await asyncio.gather(*(pull(url, number, images[number], told) for number in pair))
    await purge(data, images[0].layers[0].digest)
    await purge(data, f"library/i{_PULLS - 1}")
    await pull(url, 0, images[0], told)


async def pull(url: str, number: int, image: Image, told: Told) -> bool:
    """Pull an image; tells whether all of it came. Notes wrong bytes of a complete body."""
    base = f"{url}/v2/library/i{number}"
    wanted = [(f"{base}/manifests/latest", image.manifest)]
    wanted += [(f"{base}/blobs/{blob.digest}", blob.read()) for blob in image.blobs]
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for address, content in wanted:
            async with session.get(address) as response:
                body = await response.read()
                if response.status != 200:
                    told.wrong.append(f"{response.status} for {address}: {body[:200]!r}")
                    return False
                if body != content:
                    told.wrong.append(f"wrong bytes of {address}")
            if content is image.manifest:
                told.answered.append(time.monotonic())
    return True


async def purge(data: Path, target: str) -> None:
    """Give an order to the daemon, as `mirror purge` does."""
    folder = os.open(data, os.O_PATH)
    try:
        path = f"/proc/self/fd/{folder}/control.sock"
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
            order = {"kind": "purge", "target": target}
            async with session.post("http://mirror/orders", json=order) as response:
                await response.read()
    finally:
        os.close(folder)


def old_index(data: Path) -> int:
    """Write an index of the first schema, with a ledger; returns the number of its pulls."""
    data.mkdir(mode=0o700)
    scripts = migrations.scripts()
    with DataFolder(data).database() as database:
        for number, script in enumerate(scripts[:1], 1):
            database.executescript(f"BEGIN; {script}; PRAGMA user_version={number}; COMMIT;")
        columns = [row[1] for row in database.execute("PRAGMA table_info(pull)")]
        now = int(time.time())
        row = {"id": 0, "upstream": "docker.io", "account": "", "at": now, "asked_at": now}
        for number in range(1, _OLD_PULLS + 1):
            values = [(row | {"id": number}).get(name, "x") for name in columns]
            marks = ",".join("?" * len(columns))
            database.execute(f"INSERT INTO pull VALUES ({marks})", values)
        database.commit()
    (data / "index.db").chmod(0o600)
    return _OLD_PULLS
