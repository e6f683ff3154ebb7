"""The real command as a process of its own: configured, listened to, and ended with the test."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import aiohttp

SCRIPT = (str(Path(sys.executable).with_name("mirror")),)
MODULE = (sys.executable, "-m", "mirror")
SMALL = (sys.executable, "-m", "tests.support.small_caches")  # with a cache of any size
NOBODY = "docker.io=http://127.0.0.1:1"  # an upstream that refuses at once
_OURS = ("MIRROR_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_")
_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
# A start takes half a second of CPU, which is 10 s where each CPU has five processes more.
_RUNS_WITHIN, _STOPS_WITHIN = 30.0, 10.0  # s
FITS = {"MIRROR_MAX_SIZE": "1GiB"}  # a start warns of a bound beyond the file system


class Ended(NamedTuple):
    """How a command ended, and all it printed."""

    code: int
    out: str
    err: str


class Command:
    """A command that runs. `out` and `err` are its output so far."""

    def __init__(self, process: Process) -> None:
        assert process.stdout
        assert process.stderr
        self._process = process
        self._out, self._err = bytearray(), bytearray()
        self._said = asyncio.Event()
        self._signalled = False
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self._out)),
            asyncio.create_task(self._read(process.stderr, self._err)),
        ]

    @property
    def out(self) -> str:
        """What stands on standard output."""
        return self._out.decode()

    @property
    def err(self) -> str:
        """What stands on standard error."""
        return self._err.decode()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._signalled = True
        self._process.send_signal(number)

    async def says(self, text: str, within: float = _RUNS_WITHIN) -> None:
        """Wait until it has printed `text`; fail if it ends before that, or takes too long."""
        async with asyncio.timeout(within):
            while text not in self.out + self.err:
                self._said.clear()
                assert not all(reader.done() for reader in self._readers), self.out + self.err
                await self._said.wait()

    async def address(self, within: float = _RUNS_WITHIN) -> str:
        """Wait for the greeting and return where it listens."""
        await self.says("listens on", within)
        [line] = [line for line in self.out.splitlines() if "listens on" in line]
        return line.split()[-1]

    async def ended(self, within: float | None = None) -> Ended:
        """Wait for its end: it comes sooner after a signal than after a whole run."""
        usual = _STOPS_WITHIN if self._signalled else _RUNS_WITHIN
        async with asyncio.timeout(usual if within is None else within):
            await asyncio.gather(*self._readers)
            return Ended(await self._process.wait(), self.out, self.err)

    async def kill(self) -> None:
        """End it in any case."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.gather(*self._readers)
        await self._process.wait()

    async def _read(self, stream: asyncio.StreamReader, into: bytearray) -> None:
        try:
            while data := await stream.read(65536):
                into += data
                self._said.set()
        finally:
            self._said.set()


@asynccontextmanager
async def launched(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = MODULE,
    cwd: Path | None = None,
) -> AsyncIterator[Command]:
    """Run a command with nothing of this process's own configuration; end it at the end."""
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, env=environment(env), cwd=cwd, stdout=PIPE, stderr=PIPE
    )
    command_running = Command(process)
    try:
        yield command_running
    finally:
        await command_running.kill()


@asynccontextmanager
async def serving(
    folder: Path,
    *options: str | Path,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = MODULE,
) -> AsyncIterator[Command]:
    """Run `mirror serve` on a free port, its data in `folder`."""
    options = ("--listen", "127.0.0.1:0", "--data-dir", folder, *options)
    async with launched("serve", *options, env=env, command=command) as command_running:
        yield command_running


async def serve_to_the_end(
    *options: str | Path, env: Mapping[str, str] | None = None, command: Sequence[str] = MODULE
) -> Ended:
    """Run `mirror serve` where it should refuse to."""
    env = FITS | dict(env or {})
    async with launched("serve", *options, env=env, command=command) as refusing:
        return await refusing.ended()


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what configures a mirror, and with `more`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_OURS) and name.upper() not in _PROXIES
    }
    return kept | dict(more or {})


class Supervisor:
    """What systemd is to a daemon: a socket that is told how it goes."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        address = channel.getsockname()
        name = address if isinstance(address, str) else "@" + address[1:].decode()
        self.env = {"NOTIFY_SOCKET": name}

    async def hears(self, state: str, times: int = 1, within: float = _RUNS_WITHIN) -> None:
        """Wait until it was told `state`, so many times."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(within):
            while times:
                datagram = await loop.sock_recv(self._channel, 4096)
                times -= state in datagram.decode().splitlines()


@contextmanager
def supervisor(name: str = "") -> Iterator[Supervisor]:
    """Listen on a socket in a folder, or on an abstract one with this beginning of its name."""
    with (
        tempfile.TemporaryDirectory(prefix="mirror-", dir="/tmp") as folder,  # sockets: short paths
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
    ):
        channel.setblocking(False)
        channel.bind(f"\0{name}-{os.getpid()}" if name else f"{folder}/notify")
        yield Supervisor(channel)


def until_there(path: Path) -> None:
    """Wait for a file."""
    deadline = time.monotonic() + _RUNS_WITHIN
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def fetch(url: str) -> tuple[int, bytes]:
    """Ask once, on a connection of its own; returns status and body."""
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(url, timeout=aiohttp.ClientTimeout(10)) as response,
    ):
        return response.status, await response.read()
