"""The cases: a scene, a system call, the number of the call, and the effect there."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Scene = Literal["work", "migrate"]
Effect = Literal["KILL", "EIO", "ENOSPC", "EROFS"]

# The calls that alter the data folder; some machines have only the variants of a call.
CALLS = {
    "rename": "?rename,?renameat,?renameat2",
    "unlink": "?unlink,?unlinkat",
    "mkdir": "?mkdir,?mkdirat",
    "fsync": "fsync",
    "fdatasync": "fdatasync",
    "pwrite": "pwrite64",
    "truncate": "ftruncate",
    "write": "write",
}
_EFFECTS: tuple[Effect, ...] = ("KILL", "KILL", "KILL", "EIO", "ENOSPC", "EROFS")
_NOT_OF_DISK = {"write"}  # also writes to sockets and the log, and their errors are no disk's
_FARTHEST = 60  # the highest number of a call by one thread; `write` has thousands


@dataclass(frozen=True)
class Case:
    """One crash: at the n-th call of a kind by one thread (strace counts by thread)."""

    scene: Scene
    call: str
    when: int
    effect: Effect

    def __str__(self) -> str:
        return f"{self.scene}:{self.call}:{self.when}:{self.effect}"

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read a case as `str` writes it."""
        scene, call, when, effect = text.split(":")
        return cls(scene, call, int(when), effect)  # type: ignore[arg-type]  # typed by hand

    @property
    def tracer(self) -> tuple[str, ...]:
        """The command of strace, which goes before the daemon's."""
        calls = CALLS[self.call]
        what = "signal=KILL" if self.effect == "KILL" else f"error={self.effect}"
        inject = f"inject={calls}:{what}:when={self.when}"
        quiet = ("-f", "-qq", "-o", "/dev/null", "--seccomp-bpf")
        return ("strace", *quiet, "-e", f"trace={calls}", "-e", inject)


def drawn(seed: int) -> Iterator[Case]:
    """Draw cases without end, low numbers more often."""
    chance = random.Random(seed)
    while True:
        call = chance.choice(list(CALLS))
        scene: Scene = "migrate" if chance.random() < 0.15 else "work"
        when = 1 + int(chance.random() ** 2 * _FARTHEST)
        effect: Effect = "KILL" if call in _NOT_OF_DISK else chance.choice(_EFFECTS)
        yield Case(scene, call, when, effect)


def all_of(scene: Scene, call: str, effect: Effect) -> Iterator[Case]:
    """Number the cases of one kind; the caller stops at the first number that is not reached."""
    if effect != "KILL" and call in _NOT_OF_DISK:
        return
    for when in range(1, _FARTHEST + 1):
        yield Case(scene, call, when, effect)


def hindrance() -> str | None:
    """Return the reason why strace cannot trace on this machine, if any."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    trial = ("strace", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "true")
    ended = subprocess.run(trial, capture_output=True, text=True, check=False, timeout=30)
    return None if ended.returncode == 0 else f"strace may not trace: {ended.stderr.strip()}"
