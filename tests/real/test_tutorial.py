"""The tutorial, typed word for word: with dockerd, and a stand-in for Docker Hub on loopback.

The machine is this one, with its own network: port 5000 is free there, and nothing but
loopback can be reached. `systemctl reload docker` is its signal there, as no systemd runs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import Command, Process, environment, needs, scratch, succeeds
from .tutorial import Step, steps

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "tutorial.md").read_text()
HUB = "http://127.0.0.1:7000"
SHOWN = re.findall(r"<(http://127\.0\.0\.1:5000/\w*)>", PAGE)  # in a browser
ALONE = 'ip link set lo up && mount --bind "$1" /etc/docker && touch "$2" && exec sleep infinity'
RELOAD = '#!/bin/sh\n[ "$*" = "reload docker" ] && kill -HUP "$(cat {pid})" && sleep 1\n'


class Desk:
    """Two terminals in a checkout, a Docker, and a stand-in for Docker Hub, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = environment(folder, DOCKER_HOST=f"unix://{folder}/docker.sock")
        self._env |= {"PATH": f"{folder}/bin:{self._env['PATH']}"}
        self._env |= {"MIRROR_UPSTREAMS__DOCKER_IO__URL": HUB, "PYTHONPATH": str(PROJECT)}
        self._processes: list[Process] = []
        self._holder: Process | None = None

    def prepare(self) -> None:
        """Start what is there before the tutorial begins."""
        etc, ready = self._folder / "etc", self._folder / "ready"
        for name in ("etc", "bin", "clone/.venv"):
            (self._folder / name).mkdir(parents=True)
        Path("/etc/docker").mkdir(exist_ok=True)
        alone: Command = ["unshare", "--mount", "--net", "sh", "-c", ALONE, "sh", etc, ready]
        self._holder = self._keep(Process(alone, self._env, self._folder / "alone.log"))
        self._holder.until(ready.exists)
        self._clone()
        self._start_hub()
        self._start_docker()

    def _clone(self) -> None:
        listed = subprocess.run(
            ["git", "-C", PROJECT, "ls-files", "-z"], check=True, capture_output=True, text=True
        )
        for name in listed.stdout.split("\0"):
            if (PROJECT / name).is_file():
                place = self._folder / "clone" / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT / name, place)
        # The environment is set up already: tests/install has that part.
        (self._folder / "clone/.venv/bin").symlink_to(Path(sys.executable).parent)
        (self._folder / "clone/.venv/runs").touch()

    def _start_hub(self) -> None:
        words = [sys.executable, "-m", "tests.standin", "--port", "7000", "--limit", "100"]
        hub = self.start([*words, "--images", "library/busybox:latest=2M,1K"], "hub.log", PROJECT)
        hub.until(lambda: '"url"' in hub.log)

    def _start_docker(self) -> None:
        pid, shim = self._folder / "docker.pid", self._folder / "bin/systemctl"
        shim.write_text(RELOAD.format(pid=pid))
        shim.chmod(0o755)
        words: Command = ["dockerd", "--host", self._env["DOCKER_HOST"], "--pidfile", pid]
        words += ["--data-root", self._folder / "data", "--exec-root", self._folder / "exec"]
        docker = self.start([*words, "--iptables=false", "--bridge=none"], "docker.log", PROJECT)
        docker.until(lambda: succeeds("docker", "version", env=self._env))

    def start(self, words: Command, log: str, folder: Path | None = None) -> Process:
        """Start a program in a terminal."""
        inside = self._inside(words, folder or self._folder / "clone")
        return self._keep(Process(inside, self._env, self._folder / log))

    def type(self, lines: str) -> str:
        """Type lines into the second terminal; returns what is printed."""
        command = self._inside(["bash", "-e", "-c", lines], self._folder / "clone")
        typed = subprocess.run(
            command,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert typed.returncode == 0, f"{lines}\n{typed.stdout}"
        return typed.stdout

    def status(self, url: str) -> str:
        """Return the status of the answer to a browser."""
        return self.type(f"curl --silent --output /dev/null --write-out '%{{http_code}}' {url}")

    def close(self) -> None:
        """End all programs, the youngest first."""
        for process in reversed(self._processes):
            process.stop()

    def _keep(self, process: Process) -> Process:
        self._processes.append(process)
        return process

    def _inside(self, words: Command, folder: Path) -> Command:
        assert self._holder, "it is not prepared"
        enter: Command = ["nsenter", "-t", str(self._holder.pid), "-m", "-n"]
        return [*enter, "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", folder, *words]


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A desk to sit down at."""
    needs("dockerd", "docker", "containerd", "runc", "make", "git", "curl", "ip")
    with scratch() as folder:
        desk = Desk(folder)
        try:
            desk.prepare()
            yield desk
        finally:
            desk.close()


def test_the_tutorial_works_word_for_word(desk: Desk) -> None:
    first, *others = steps(PAGE)
    assert len(others) > 5
    mirror = desk.start(["bash", "-c", f"exec {first.typed}"], "mirror.log")
    mirror.until(lambda: first.is_like(mirror.log))
    for step in others:
        if step.section == "Clean up":
            assert [desk.status(page) for page in SHOWN] == ["200"] * 2
            os.killpg(mirror.pid, signal.SIGINT)  # as Ctrl-C does
            mirror.wait(20)
            assert mirror.log.rstrip().endswith("stopped")
        printed = desk.type(step.typed)
        assert step.is_like(printed), f"{step.typed}\n{printed}\ninstead of\n{step.shown}"
    assert "Traceback" not in mirror.log


@pytest.mark.parametrize(
    ("shown", "printed", "is_like"),
    [
        ("left 98, …\n", "left 7, by upstream's figure\n", True),
        ("saved 0 of 2\n", "saved 0 of 9\n", True),
        ("saved 0 of 2\n", "saved 1 of 9\n", False),
        ("saved 2 of 4\n", "saved 0 of 9\n", False),
        ("2.1 MiB\n", "0.5 MiB\n", True),
        ("a    1\n", "a 10\n", True),
        ("a 1\n", "a1\n", False),
        ("a\n…\nb\n", "a\nb\n", True),
        ("a\n…\nb\n", "a\nx\ny\nb\n", True),
        ("a\n…\nb\n", "a\nx\ny\n", False),
        ("a\n", "a\nb\n", False),
    ],
)
def test_a_print_is_compared_up_to_its_numbers(shown: str, printed: str, is_like: bool) -> None:
    assert Step("", "", shown).is_like(printed) is is_like
