"""`make test-pythons`: runs the tests on each supported Python found, in an environment of its own.

Found are `python3.11` and later on the path, and pyenv's; of several with the same minor version,
the newest. Environments are kept in `.pythons`, and made anew when the lock changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

_OLDEST = (3, 11)
_PROJECT = Path(__file__).parents[1]
_ENVIRONMENTS = _PROJECT / ".pythons"
_LOCK = _PROJECT / "requirements-dev.lock"
_APART = ("real", "install", "modern", "browser")  # rooms that need more than Python packages
_VERSION = "import sys; print(*sys.version_info[:3])"

Version = tuple[int, ...]


def version(python: Path) -> Version | None:
    """Return an interpreter's version; None if it does not run."""
    command = [str(python), "-c", _VERSION]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return tuple(map(int, ran.stdout.split())) if ran.returncode == 0 else None


def newest(found: Iterable[tuple[Version, Path]]) -> list[tuple[Version, Path]]:
    """Return the newest interpreter of each supported minor version, oldest minor first."""
    best = {each[:2]: (each, path) for each, path in sorted(found) if each[:2] >= _OLDEST}
    return [best[minor] for minor in sorted(best)]


def candidates() -> list[Path]:
    """Return the interpreters on the path, and those of pyenv."""
    names = [f"python3.{minor}" for minor in range(_OLDEST[1], 30)]
    on_path = [Path(found) for name in names if (found := shutil.which(name))]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [Path(sys.executable), *on_path, *root.glob("versions/*/bin/python3")]


def environment(found: Version, python: Path) -> Path:
    """Return the interpreter of an environment with the locked packages; makes it if needed."""
    folder = _ENVIRONMENTS / ".".join(map(str, found[:2]))
    inside, ready = folder / "bin" / "python", folder / "ready"
    locked = sha256(_LOCK.read_bytes()).hexdigest()
    if not ready.exists() or ready.read_text() != locked:
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        pip = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(_LOCK)], check=True)
        subprocess.run([*pip, "--no-deps", "--editable", str(_PROJECT)], check=True)
        ready.write_text(locked)
    return inside


def main(words: list[str]) -> int:
    """Run pytest on each Python; `words` are its arguments, all rooms if there are none."""
    apart = [f"--ignore=tests/{each}" for each in _APART]
    outcomes = {}
    for found, python in newest((v, path) for path in candidates() if (v := version(path))):
        name = ".".join(map(str, found))
        _say(f"Python {name}")
        command = [str(environment(found, python)), "-m", "pytest", *(words or ["tests"]), *apart]
        command += ["-n", "4", "--dist", "worksteal"]
        outcomes[name] = subprocess.run(command, cwd=_PROJECT, check=False).returncode
    for name, code in outcomes.items():
        _say(f"Python {name}: {'passed' if code == 0 else 'FAILED'}")
    return int(any(outcomes.values()))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
