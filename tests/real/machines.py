"""A machine for installations: this machine's files, with all changes dropped at the end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .processes import PATH, CommandFailed, Process, scratch


class Machine:
    """A root folder in which programs run, as root by default."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, name: str) -> Path:
        """Return the place of a file of the machine, by its absolute path."""
        return self._root / name.lstrip("/")

    def run(self, line: str, user: str = "root", within: float = 120) -> str:
        """Run a line in a shell of the machine; returns its output. Raises CommandFailed."""
        ran = subprocess.run(
            self._words(line, user),
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        if ran.returncode:
            words = (ran.stdout + ran.stderr)[-4000:]
            raise CommandFailed(f"{line} -> {ran.returncode}\n{words}")
        return ran.stdout

    def start(self, line: str, user: str, log: Path) -> Process:
        """Start a line in the background, as a process of the user."""
        return Process(self._words(f"exec {line}", user), _environment(), log)

    def owners(self, folder: str) -> set[str]:
        """Return the owners of a folder and of all files and folders below it."""
        return set(self.run(f"find {folder} -printf '%u\\n'").split())

    def _words(self, line: str, user: str) -> list[str | Path]:
        whose = [] if user == "root" else [f"--userspec={user}:{user}"]
        return ["chroot", *whose, self._root, "/bin/sh", "-c", line]


def _environment() -> Mapping[str, str]:
    """Return the variables of a plain login shell; systemd does not run on the machine."""
    shell = {"PATH": f"/usr/local/bin:{PATH}", "HOME": "/", "LANG": "C.UTF-8"}
    return {**shell, "SYSTEMD_OFFLINE": "1"}


@contextmanager
def machine() -> Iterator[Machine]:
    """Lend a machine like this one; this one does not change."""
    with scratch() as folder:
        changes, root = folder / "changes", folder / "root"
        changes.mkdir()
        root.mkdir()
        _mount("-t", "tmpfs", "tmpfs", changes)
        for name in ("upper", "work"):
            (changes / name).mkdir()
        layers = f"lowerdir=/,upperdir={changes}/upper,workdir={changes}/work"
        _mount("-t", "overlay", "-o", layers, "overlay", root)
        for name in ("dev", "proc"):
            _mount("--rbind", f"/{name}", root / name)
            _mount("--make-rslave", root / name)
        yield Machine(root)


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True, timeout=10)
