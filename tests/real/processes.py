"""Programs: run to their end, or while a test lasts; none outlives the tests."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias
from urllib.request import ProxyHandler, build_opener

import pytest

PACKAGES = {
    "bash": "bash",
    "buildah": "buildah",
    "caddy": "caddy",
    "containerd": "containerd",
    "crun": "crun",
    "ctr": "containerd",
    "curl": "curl",
    "docker": "docker.io",
    "docker-registry": "docker-registry",
    "docker-credential-pass": "golang-docker-credential-helpers",
    "dockerd": "docker.io",
    "dpkg-deb": "dpkg",
    "git": "git",
    "gpg": "gnupg",
    "ip": "iproute2",
    "make": "make",
    "nginx": "nginx-light",
    "pass": "pass",
    "mmdebstrap": "mmdebstrap",
    "pipx": "pipx",
    "podman": "podman",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "py3compile": "python3-minimal",
    "python3": "python3",
    "runc": "runc",
    "skopeo": "skopeo",
    "systemctl": "systemd",
    "systemd-analyze": "systemd",
}
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # only the folders of Debian's packages
NOBODY = "http://127.0.0.1:1"  # a proxy that refuses: only loopback can be reached

Command: TypeAlias = list[str | Path]


class CommandFailed(Exception):
    """A program ended badly; the message has its last words."""


def needs(*programs: str) -> None:
    """Skip the test without these programs or root's rights; names the packages to install."""
    if os.geteuid() != 0:
        pytest.skip("engines need root's rights: run `make test-real` as root")
    missing = {PACKAGES[program] for program in programs if not shutil.which(program, path=PATH)}
    if missing:
        pytest.skip(f"apt-get install {' '.join(sorted(missing))}")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return a program's environment: without the user's settings, and with loopback alone."""
    proxies = {"HTTP_PROXY": NOBODY, "HTTPS_PROXY": NOBODY, "NO_PROXY": "127.0.0.1"}
    return {"PATH": PATH, "HOME": str(home), "LANG": "C.UTF-8", **proxies, **more}


async def run(
    *command: str | Path, env: Mapping[str, str], within: float = 60, data: bytes = b""
) -> bytes:
    """Run a program to its end and return its output; raises CommandFailed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(within):
            out, err = await process.communicate(data)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        raise
    if process.returncode:
        words = (out + err).decode(errors="replace")[-4000:]
        raise CommandFailed(f"{' '.join(map(str, command))} -> {process.returncode}\n{words}")
    return out


class Process:
    """A program in the background; the kernel ends it when the tests end."""

    def __init__(self, command: Command, env: Mapping[str, str], log: Path) -> None:
        self._name = str(command[0])
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *command],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<Process {self._process.pid}: {self._name}>"

    @property
    def pid(self) -> int:
        """The program's id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """The output of this program and of earlier ones with the same log."""
        return self._log.read_text(errors="replace")

    def until(self, ready: Callable[[], bool], within: float = 20) -> None:
        """Wait until a condition holds; fails if the program ends first or takes too long."""
        deadline = time.monotonic() + within
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"hoped in vain for {self!r}, which said:\n{self.log[-4000:]}")
            time.sleep(0.02)

    def terminate(self) -> None:
        """Send SIGTERM to the program."""
        self._process.terminate()

    def kill(self) -> None:
        """End the program's process group, as a power cut would."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self, within: float) -> int:
        """Wait for the program's end and return its exit code; raises TimeoutExpired."""
        return self._process.wait(within)

    def stop(self, within: float = 15) -> int:
        """Send SIGTERM, and then kill the process group. Returns the exit code."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.wait(within)
        self.kill()
        return self.wait(within)


def succeeds(*command: str | Path, env: Mapping[str, str]) -> bool:
    """Tell whether a program soon exits with 0."""
    try:
        subprocess.run(command, env=env, capture_output=True, check=True, timeout=10)
    except subprocess.SubprocessError:
        return False
    return True


def read(url: str) -> str:
    """Return a server's answer to a GET; raises OSError."""
    with build_opener(ProxyHandler({})).open(url, timeout=5) as response:
        return str(response.read(), "utf-8")


def answers(url: str) -> bool:
    """Tell whether a server answers a GET with success."""
    try:
        read(url)
    except OSError:
        return False
    return True


def listens(port: int) -> bool:
    """Tell whether a program listens on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def scratch() -> Iterator[Path]:
    """Lend a folder; at the end all mounts in it are undone, and it is removed.

    Its name is short, for sockets will be in it.
    """
    folder = Path(tempfile.mkdtemp(prefix="mirror-", dir="/tmp"))
    try:
        yield folder
    finally:
        for place in sorted(_mounts(folder), reverse=True):
            subprocess.run(["umount", "--lazy", place], check=True, timeout=10)
        shutil.rmtree(folder)


def _mounts(folder: Path) -> list[str]:
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [place for place in places if place.startswith(f"{folder}/")]
