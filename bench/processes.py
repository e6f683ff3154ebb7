"""Processes: started with logs in files, watched through /proc, and always ended."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.client import Connection, Refused

READY_WITHIN = 120.0  # seconds
STOP_WITHIN = 30.0
_LOOK_EVERY = 0.005
_TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A program of the benchmark did not do its part."""


class Memory(NamedTuple):
    """Resident memory of a process, in bytes."""

    now: int
    peak: int


class Process:
    """One program, running from construction to `stop`. What it writes goes to `NAME.out`."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, within: Path | None = None
    ) -> None:
        self.name = name
        self.out = folder / f"{name}.out"
        self.began = time.perf_counter()
        with self.out.open("wb") as out:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=within,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the benchmark, which then ends us in order
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    def cpu(self) -> float:
        """Return the CPU seconds it has used so far, all its threads together."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> Memory:
        """Return what it has resident, now and at the most."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
        return Memory(*(int(sizes[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")))

    def first_line(self) -> str:
        """Wait for the first line it writes."""
        for _ in self._looks():
            if "\n" in (text := self.out.read_text(errors="replace")):
                return text.partition("\n")[0]
        raise Failed(f"{self.name} wrote nothing in {READY_WITHIN:.0f} s")

    def ready(self, url: str, path: str) -> float:
        """Wait until `path` answers 200; returns the seconds since the process was started."""
        for _ in self._looks():
            if _answers(url, path):
                return time.perf_counter() - self.began
        raise Failed(f"{self.name} was not ready in {READY_WITHIN:.0f} s\n{self._last_words()}")

    def stop(self) -> None:
        """Ask it to end, and end it if it does not."""
        if self._child.poll() is None:
            self._child.terminate()
        try:
            self._child.wait(STOP_WITHIN)
        except BaseException:
            self._child.kill()
            self._child.wait()
            raise

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._child.kill()
        self._child.wait()

    def _looks(self) -> Iterator[None]:
        """Have another look, for a bounded time and while it lives."""
        until = time.perf_counter() + READY_WITHIN
        while time.perf_counter() < until:
            if self._child.poll() is not None:
                code = self._child.returncode
                raise Failed(f"{self.name} ended with exit code {code}\n{self._last_words()}")
            yield
            time.sleep(_LOOK_EVERY)

    def _last_words(self) -> str:
        return "\n".join(self.out.read_text(errors="replace").splitlines()[-15:])


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def _answers(url: str, path: str) -> bool:
    try:
        with Connection(url) as connection:
            reply = connection.ask("GET", path)
            connection.drain(reply)
            return reply.status == 200
    except (OSError, Refused):
        return False


def _environment() -> Mapping[str, str]:
    """Keep proxies, and settings for either server, out of the measurement."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
